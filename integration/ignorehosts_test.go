//go:build unix

package integration_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// TestD17OneEngine is SkyPilot's defect 17, a .skyignore that means something else
// for a bucket than for rsync: one tree goes both ways, and the same of it
// arrives, but for .git. why says the same.
func TestD17OneEngine(t *testing.T) {
	t.Parallel()
	program.Short(t)
	r := newRig(t)
	sshd := servers.Sshd(t)
	rules := func(lines string) { write(t, filepath.Join(r.source, ".skyignore"), lines) }
	rules("*.log\n!keep.log\n/top\na/b\n**/deep/*.o\nq\\?\n[x]\nbuild/\n")
	ours := []string{".skyignore", "a/c", "build2/z", "deep/sub/y.o", "keep.log", "q1", "sub/a/b", "sub/keep.log", "sub/top"}
	for _, name := range append([]string{
		".b.log", "a.log", "sub/.c.log", "top", "a/b", "deep/x.o", "sub/deep/x.o", "q?", "x", "build/o", "sub/build/o",
		".git/config", "sub/.git/config",
	}, ours[1:]...) {
		write(t, filepath.Join(r.source, name), name)
	}
	write(t, filepath.Join(r.source, "sub/nested/.skyignore"), "!*.log\nown\n")
	write(t, filepath.Join(r.source, "sub/nested/n.log"), "")
	write(t, filepath.Join(r.source, "sub/nested/own"), "")
	ours = append(ours, "sub/nested/.skyignore", "sub/nested/n.log")

	plain := filepath.Join(r.home.Dir, "plain.yaml")
	mounts := fmt.Sprintf("file_mounts:\n  %s/data: %s\n", sshd.Dir, r.source)
	write(t, plain, mounts)
	both := filepath.Join(r.home.Dir, "both.yaml")
	write(t, both, mounts+fmt.Sprintf("  /copy: {name: %s-copy, source: %s, store: s3, mode: COPY}\n", r.bucket, r.source))
	watch := r.live(t, []string{"watch", "-f", both, "--host", sshd.Host, "--ssh-config", sshd.Config})
	same := func(step string, want []string) {
		t.Helper()
		inBucket, onHost := sorted(want), sorted(append([]string{".git/config", "sub/.git/config"}, want...))
		waitFor(t, step, func() bool {
			return slices.Equal(r.synced(t), inBucket) && slices.Equal(filesIn(t, filepath.Join(sshd.Dir, "data")), onHost)
		}, func() any { return r.synced(t) }, func() any { return filesIn(t, filepath.Join(sshd.Dir, "data")) })
	}
	same("first pass", ours)
	for _, name := range []string{"late.log", "sub/build/new", "late"} {
		write(t, filepath.Join(r.source, name), "")
	}
	ours = append(ours, "late")
	same("new files", ours)
	rules("*.o\n.*.log\n*.log\n!keep.log\n/top\na/b\nq\\?\n[x]\nlate\n")
	ours = slices.DeleteFunc(ours, func(name string) bool { return name == "deep/sub/y.o" || name == "late" })
	same("other rules", append(ours, "build/o", "sub/build/o", "sub/build/new"))
	r.why(t, "sub/.c.log", "watch", "ignored")
	r.why(t, "sub/top", "watch", "synced")
	r.why(t, ".git/config", "watch", "ignored")
	stop(t, watch)

	// Hosts alone, and then all.
	only := []string{"watch", "-f", plain, "--host", sshd.Host, "--ssh-config", sshd.Config}
	watch = r.home.Start(t, only...)
	explain(t, watch)
	watch.Wait("first pass", func(v map[string]any) bool { return v["first"] == true })
	r.why(t, ".git/config", "watch", "synced")
	r.why(t, "a.log", "watch", "ignored")
	stop(t, watch)
	watch = r.home.Start(t, append(only, "--no-ignore")...)
	explain(t, watch)
	waitFor(t, "everything", func() bool {
		return slices.Equal(filesIn(t, filepath.Join(sshd.Dir, "data")), filesIn(t, r.source))
	})
	r.why(t, "a.log", "watch", "synced")
	stop(t, watch)
	r.why(t, "a.log", "earlier", "ignored")
}

// synced returns the files of the task's bucket, sorted.
func (r *rig) synced(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(filesIn(t, filepath.Join(r.server.Dir, r.bucket+"-copy")),
		func(name string) bool { return strings.HasPrefix(name, ".skyagent/") })
}

// why waits until why finds the source of a path of r's in this way, and says
// what its verdict is. A watch writes down a little later what it watches.
func (r *rig) why(t *testing.T, name, by, verdict string) {
	t.Helper()
	code := 3
	if verdict == "synced" {
		code = 0
	}
	var result program.Result
	waitFor(t, "verdict "+verdict+" on "+name, func() bool {
		result = r.home.Run(t, "why", "--json", filepath.Join(r.source, name))
		var line struct {
			Source, Verdict string
			SourceBy        string `json:"source_by"`
		}
		return json.Unmarshal([]byte(result.Stdout), &line) == nil && result.Code == code &&
			line.Source == r.source && line.SourceBy == by && line.Verdict == verdict
	}, func() any { return result })
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}
