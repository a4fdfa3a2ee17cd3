package watcher_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/watcher"
)

// TestRootGoesAndComesBack moves the root away, and back, under the real
// backend: a Rescan for each, no deletion, and what comes later is seen.
func TestRootGoesAndComesBack(t *testing.T) {
	for _, how := range []string{"moved", "removed", "symlink"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			root, aside := filepath.Join(dir, "root"), filepath.Join(dir, "aside")
			must(t, os.MkdirAll(filepath.Join(root, "sub"), 0o755))
			write(t, root, "sub/f")
			given := root
			if how == "symlink" {
				given = filepath.Join(dir, "link")
				must(t, os.Symlink("root", given))
			}
			w := start(t, watcher.Options{Root: given})
			write(t, root, "sub/f") // dirty while the root goes
			if how == "removed" {
				must(t, os.RemoveAll(root))
			} else {
				must(t, os.Rename(root, aside))
			}
			for {
				b := next(t, w)
				for _, p := range b.Paths {
					// On a slow machine the write has settled before the root went.
					if how != "removed" && p != "sub/f" {
						t.Errorf("deletion of %s without the root", p)
					}
				}
				if b.Rescan == "root" {
					break
				}
			}
			if how == "removed" {
				must(t, os.MkdirAll(filepath.Join(root, "sub"), 0o755))
			} else {
				must(t, os.Rename(aside, root))
			}
			if b := nextRescan(t, w); b.Rescan != "root" {
				t.Errorf("rescan %q", b.Rescan)
			}
			write(t, root, "sub/g")
			for seen := false; !seen; {
				for _, p := range next(t, w).Paths {
					seen = seen || p == "sub/g"
				}
			}
		})
	}
}

// TestRootLinkChanged: a root that is a link to another directory now is
// another root.
func TestRootLinkChanged(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "v1"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "v2/sub"), 0o755))
	link := filepath.Join(dir, "current")
	must(t, os.Symlink("v1", link))
	w := start(t, watcher.Options{Root: link})
	must(t, os.Symlink("v2", link+".new"))
	must(t, os.Rename(link+".new", link))
	if b := nextRescan(t, w); b.Rescan != "root" {
		t.Fatalf("rescan %q", b.Rescan)
	}
	comesToSee(t, w, link, "sub/f")
}
