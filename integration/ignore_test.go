package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestD13ManyIgnored is SkyPilot's defect 13, more ignored files than a command
// line takes, live: a watch leaves them out, takes in what the rules no longer
// name, and removes what they come to name, on a worker too.
func TestD13ManyIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	git := exec.Command("git", "init", "-q", r.source)
	must(t, git.Run())
	rules := func(lines string) { write(t, filepath.Join(r.source, ".gitignore"), lines) }
	rules("*.tmp\nnode_modules/\n")
	for i := range 7000 {
		write(t, filepath.Join(r.source, fmt.Sprintf("%d.tmp", i)), "x")
	}
	write(t, filepath.Join(r.source, "node_modules", "m", "index.js"), "js")
	write(t, filepath.Join(r.source, "sub", "train.py"), "py")
	watch := r.watch(t)
	follow := r.copy(t)
	has := func(names ...string) func() bool {
		return func() bool { return slices.Equal(filesIn(t, r.replica), names) }
	}
	show := func() any { return fmt.Sprintf("%.500q", filesIn(t, r.replica)) }
	waitFor(t, "what is not ignored", has(".gitignore", "sub/train.py"), show)

	write(t, filepath.Join(r.source, "another.tmp"), "x")
	write(t, filepath.Join(r.source, "node_modules", "m", "late.js"), "js")
	write(t, filepath.Join(r.source, "sub", "test.py"), "py")
	waitFor(t, "a new file", has(".gitignore", "sub/test.py", "sub/train.py"), show)

	rules("*.tmp\n/sub/test.py\n")
	waitFor(t, "other rules", has(".gitignore", "node_modules/m/index.js", "node_modules/m/late.js", "sub/train.py"), show)

	write(t, filepath.Join(r.source, "node_modules", "m", "later.js"), "js")
	waitFor(t, "a file in a directory that was ignored", func() bool {
		return there(filepath.Join(r.replica, "node_modules", "m", "later.js"))
	}, show)
	stop(t, follow, watch)
	if there(r.object(".git/HEAD")) || there(r.object("1.tmp")) {
		t.Error("the bucket has what is ignored")
	}
}

// filesIn returns the files below dir, sorted.
func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".skyagent") {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	slices.Sort(names)
	return names
}
