package watcher_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// TestIgnored shows that ignored directories are not watched, those that were
// there and those that come, that a change of the rules is a Rescan, and that it
// is then the new ones that decide.
func TestIgnored(t *testing.T) {
	root := t.TempDir()
	mkdir := func(name string) { must(t, os.MkdirAll(filepath.Join(root, name), 0o755)) }
	mkdir("build/x")
	mkdir("dist")
	mkdir(".git/objects/00")
	must(t, os.WriteFile(filepath.Join(root, ".skyignore"), []byte("build/\n"), 0o644))
	w := start(t, watcher.Options{Root: root, Ignore: ignore.New(ignore.Options{})})
	mkdir("sub/build/x")
	write(t, root, "sub/build/x/f")
	write(t, root, "build/x/f")
	write(t, root, ".git/objects/00/f")
	write(t, root, "dist/f")
	if got := upTo(t, w, "dist/f"); slices.ContainsFunc(got, ignored) {
		t.Errorf("named %q", got)
	}
	must(t, os.WriteFile(filepath.Join(root, ".skyignore"), []byte("dist/\n"), 0o644))
	for b := next(t, w); b.Rescan != "rules"; b = next(t, w) {
	}
	write(t, root, "dist/g")
	write(t, root, "build/x/g")
	if got := upTo(t, w, "build/x/g"); slices.Contains(got, "dist/g") {
		t.Errorf("named %q", got)
	}
}

func ignored(p manifest.Path) bool {
	return p.Within("build") || p.Within("sub/build") || p.Within(".git")
}

// upTo returns the paths that are named until last is.
func upTo(t *testing.T, w *watcher.Watcher, last manifest.Path) []manifest.Path {
	t.Helper()
	var all []manifest.Path
	for !slices.Contains(all, last) {
		all = append(all, next(t, w).Paths...)
	}
	return all
}
