package watcher_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/watcher"
)

// mount mounts source (or a tmpfs when it is "") at target until the test ends.
func mount(t *testing.T, source, target string) {
	t.Helper()
	kind, flags := "tmpfs", uintptr(0)
	if source != "" {
		kind, flags = "", unix.MS_BIND
	}
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// TestMountOverRoot: no event tells of a mount, and none of an unmount.
func TestMountOverRoot(t *testing.T) {
	root := t.TempDir()
	write(t, root, "below")
	w := start(t, watcher.Options{Root: root, Timing: watcher.Timing{Root: 50 * time.Millisecond}})
	mount(t, "", root)
	if b := nextRescan(t, w); b.Rescan != "root" {
		t.Fatalf("rescan %q", b.Rescan)
	}
	comesToSee(t, w, root, "above")
	must(t, unix.Unmount(root, 0))
	if b := nextRescan(t, w); b.Rescan != "root" {
		t.Fatalf("rescan %q", b.Rescan)
	}
	comesToSee(t, w, root, "below")
}

// TestRootMountedAgain: the same directory, by another mount.
func TestRootMountedAgain(t *testing.T) {
	dir := t.TempDir()
	source, root := filepath.Join(dir, "source"), filepath.Join(dir, "root")
	must(t, os.Mkdir(source, 0o755))
	must(t, os.Mkdir(root, 0o755))
	mount(t, source, root)
	w := start(t, watcher.Options{Root: root, Timing: watcher.Timing{Root: 50 * time.Millisecond}})
	must(t, unix.Unmount(root, 0))
	mount(t, source, root)
	if b := nextRescan(t, w); b.Rescan != "root" {
		t.Fatalf("rescan %q", b.Rescan)
	}
}

// TestBindMountInside: a directory with two paths ends no walk, and is polled
// under the one that is not watched.
func TestBindMountInside(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"a/sub", "b", "loop"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	mount(t, filepath.Join(root, "a"), filepath.Join(root, "b"))
	mount(t, root, filepath.Join(root, "loop"))
	w := start(t, watcher.Options{Root: root, Timing: watcher.Timing{Limited: 100 * time.Millisecond}})
	write(t, root, "a/sub/f")
	for seen, polled := false, false; !seen || !polled; {
		b := next(t, w)
		polled = polled || b.Rescan == "limit"
		for _, p := range b.Paths {
			seen = seen || p == "a/sub/f" || p == "b/sub/f"
		}
	}
}
