package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

// TestMountWatchCopy has a watch, a mount and a replica on one storage: each
// change of one is seen by the others, over the bus and, once that is gone,
// without it.
func TestMountWatchCopy(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "first"), "from the source")
	watch := r.watch(t, "--nats", nats.URL)
	replica := r.copy(t, "--nats", nats.URL, "--poll", "1s")
	dir, _ := r.mount(t, "--nats", nats.URL)
	defer stop(t, watch, replica)
	for _, when := range []string{"with the bus", "without"} {
		saved, made := "saved "+when, "made "+when
		write(t, filepath.Join(r.source, saved), saved)
		waitFor(t, "a saved file in the mount", func() bool { return contains(dir, saved, saved) })
		write(t, filepath.Join(dir, made), made)
		waitFor(t, "a made file in the replica", func() bool { return contains(r.replica, made, made) })
		must(t, os.Remove(filepath.Join(dir, made)))
		waitFor(t, "a removed file to go from the replica", func() bool {
			_, err := os.Stat(filepath.Join(r.replica, made))
			return errors.Is(err, os.ErrNotExist)
		})
		if when == "with the bus" {
			nats.Kill()
		}
	}
}

// TestMountUnderWatch has a mount and then the source of one machine write one
// file: the source's version is shown, and the bucket has the mount's beside.
func TestMountUnderWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	watch := r.watch(t)
	defer stop(t, watch)
	dir, _ := r.mount(t)
	write(t, filepath.Join(dir, "f"), "the mount's")
	write(t, filepath.Join(r.source, "f"), "the source's")
	waitFor(t, "the source's version", func() bool { return contains(dir, "f", "the source's") })
	kept, err := filepath.Glob(r.object("f.skyagent-conflict-*"))
	if err != nil || len(kept) != 1 || read(t, kept[0]) != "the mount's" {
		t.Errorf("beside in the bucket are %q, %v", kept, err)
	}
}

// TestMountExclusive has two mounts of one machine create one file, at times
// with the same bytes: exactly one of them ends well, and what the other wrote is
// kept beside.
func TestMountExclusive(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	for round := range 20 {
		contents := dirs
		if round%2 == 1 {
			contents = []string{"same", "same"}
		}
		var files [2]*os.File
		for i, dir := range dirs {
			f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			must(t, err)
			_, err = f.WriteString(contents[i])
			must(t, err)
			files[i] = f
		}
		var errs [2]error
		var both sync.WaitGroup
		for i, f := range files {
			both.Go(func() { errs[i] = f.Close() })
		}
		both.Wait()
		won, lost := 0, 1
		if errs[0] != nil {
			won, lost = 1, 0
		}
		if errs[won] != nil || !errors.Is(errs[lost], syscall.ESTALE) {
			t.Fatalf("closes ended with %v and %v, want one ESTALE", errs[0], errs[1])
		}
		for _, dir := range dirs {
			waitFor(t, "the winner's bytes", func() bool { return contains(dir, "lock", contents[won]) })
			waitFor(t, "the other's beside", func() bool {
				kept, _ := filepath.Glob(filepath.Join(dir, "lock.skyagent-conflict-*"))
				return len(kept) == 1 && contains(dir, filepath.Base(kept[0]), contents[lost])
			})
		}
		entries, err := os.ReadDir(dirs[0])
		must(t, err)
		for _, e := range entries {
			must(t, os.Remove(filepath.Join(dirs[0], e.Name())))
		}
		waitFor(t, "both mounts to be empty", func() bool {
			left, err := os.ReadDir(dirs[1])
			return err == nil && len(left) == 0
		})
	}
}
