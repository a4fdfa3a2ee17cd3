package syncer_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// smallDisk mounts a file system of a few pages.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("NOT TESTED: no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill uses up the disk and returns what frees it again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := 4096; chunk > 0; {
		if _, err := f.Write(make([]byte, chunk)); err != nil {
			chunk /= 2
		}
	}
	return func() { os.Remove(name) }
}

// A full disk of the state stops neither side, and once there is room the next
// start has nothing to transfer.
func TestFullStateDisk(t *testing.T) {
	r, j := judged(t)
	r.state = smallDisk(t)
	r.many(30)
	w := r.watch()
	w.becomes(syncer.StateReady)
	c := r.follow()
	c.becomes(syncer.StateReady)
	free := fill(t, r.state)
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"} // for more than is left in a page
	for i, content := range []string{"one", "two", "three"} {
		for _, name := range names {
			r.write("dir/"+name+content, content+name)
			w.tell("dir", manifest.Path("dir/"+name+content))
		}
		r.write("again", content)
		w.tell("again")
		w.until("it is uploaded", func(st syncer.SourceStatus) bool {
			return r.object("again") == content && r.object("dir/h"+content) == content+"h" && st.Dirty == 0
		})
		c.until("it is copied", func(syncer.ReplicaStatus) bool {
			for _, name := range names {
				if r.copied("dir/"+name+content) != content+name {
					return false
				}
			}
			return r.copied("again") == content
		})
		if i == 1 {
			free()
		}
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	c.stop()
	before := j.uploaded()
	if st := r.mustSync(); st.Commits != 0 || j.uploaded() != before {
		t.Errorf("the next start: %+v", st)
	}
	if st := r.mustCopy(); st.FetchedFiles != 0 || st.Conflicts != 0 {
		t.Errorf("the next start of the replica: %+v", st)
	}
	r.checkSame()
}

// A full disk of the replica fails the files that it cannot hold, keeps their
// old versions, and heals.
func TestFullReplicaDisk(t *testing.T) {
	r, j := judged(t)
	r.replica = smallDisk(t)
	r.write("a", "1")
	r.write("b", "1")
	r.mustSync()
	c := r.follow()
	c.becomes(syncer.StateReady)
	r.write("a", string(make([]byte, 100_000)))
	r.write("b", "2")
	r.mustSync()
	c.until("one file fails", func(st syncer.ReplicaStatus) bool { return len(st.Failed) == 1 && r.copied("b") == "2" })
	c.becomes(syncer.StatePartial)
	if r.copied("a") != "1" {
		t.Error("the old version is gone")
	}
	j.exposes(r.replica)
	r.write("a", "it fits")
	r.mustSync()
	c.becomes(syncer.StateReady)
	r.checkSame()
}
