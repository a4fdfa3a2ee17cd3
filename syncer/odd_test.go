//go:build unix

package syncer_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

func TestUnreadableFileKeepsItsOldVersion(t *testing.T) {
	asNobody(t, func() {
		r, _ := judged(t)
		r.write("a", "old")
		r.write("b", "1")
		r.mustSync()
		r.write("a", "new")
		os.Chmod(r.disk("a"), 0)
		r.write("b", "2")
		st := r.mustSync()
		if r.object("a") != "old" || r.object("b") != "2" {
			t.Errorf("objects are %q and %q", r.object("a"), r.object("b"))
		}
		if len(st.Skipped) != 1 || st.Skipped[0].Name != "a" || st.Skipped[0].Why != manifest.SkipUnreadable || !errors.Is(st.Skipped[0].Err, fs.ErrPermission) {
			t.Errorf("skipped: %+v", st.Skipped)
		}
		os.Chmod(r.disk("a"), 0o644)
		if st := r.mustSync(); r.object("a") != "new" || len(st.Skipped) != 0 {
			t.Errorf("readable again: %q, %+v", r.object("a"), st.Skipped)
		}
	})
}

// What lies below a directory that cannot be entered is not gone, neither for
// a scan nor for a batch that names it.
func TestUnreadableDirectoryKeepsItsObjects(t *testing.T) {
	asNobody(t, func() {
		r, _ := judged(t)
		r.write("shut/deep/a", "1")
		r.write("b", "2")
		w := r.watch()
		w.becomes(syncer.StateReady)
		os.Chmod(r.disk("shut"), 0)
		defer os.Chmod(r.disk("shut"), 0o755)
		w.tell("shut/deep/a", "shut/deep")
		w.feed <- manifest.Batch{Paths: []manifest.Path{"shut"}, Rescan: "interval"}
		w.until("it is reported", func(st syncer.SourceStatus) bool {
			return slices.ContainsFunc(st.Skipped, func(k manifest.Skipped) bool {
				return k.Name == "shut" && k.Why == manifest.SkipUnreadable
			}) && st.State == syncer.StateReady && st.Scans == 2
		})
		r.write("b", "22")
		w.tell("b")
		w.until("others go on", func(syncer.SourceStatus) bool { return r.object("b") == "22" })
		time.Sleep(400 * time.Millisecond) // for longer than deletions are held
		if st := w.Status(); st.Deleted != 0 || r.object("shut/deep/a") != "1" {
			t.Errorf("status is %+v, object %q", st, r.object("shut/deep/a"))
		}
	})
}

// A root that cannot be read is a lost one, in one pass and in a watch.
func TestUnreadableRoot(t *testing.T) {
	asNobody(t, func() {
		r, _ := judged(t)
		r.many(5)
		w := r.watch()
		w.becomes(syncer.StateReady)
		os.Chmod(r.source, 0)
		defer os.Chmod(r.source, 0o755)
		w.feed <- manifest.Batch{Rescan: "interval"}
		w.becomes(syncer.StateGuarded)
		os.Chmod(r.source, 0o755)
		w.becomes(syncer.StateReady)
		if err := w.stop(); err != nil || r.objects() != 5 {
			t.Errorf("%v, %d objects are left", err, r.objects())
		}
		os.Chmod(r.source, 0)
		if _, err := r.sync(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("one pass: %v", err)
		}
	})
}

func TestReplicaOfReadOnlyDirectories(t *testing.T) {
	asNobody(t, func() {
		r, _ := judged(t)
		r.write("d/a", "1")
		r.write("d/b", "2")
		r.write("d/sub/c", "3")
		os.Chmod(r.disk("d/a"), 0o444)
		close := func() { os.Chmod(r.disk("d"), 0o555) }
		open := func() { os.Chmod(r.disk("d"), 0o755) }
		defer open()
		defer os.Chmod(filepath.Join(r.replica, "d"), 0o755)
		close()
		r.mustSync()
		r.mustCopy()
		r.checkSame()
		for _, change := range []func(){
			func() { r.write("d/b", "22") },
			func() { r.write("d/new", "4") },
			func() { os.Remove(r.disk("d/b")) },
			func() { os.Mkdir(r.disk("d/dir"), 0o755) },
			func() { os.RemoveAll(r.disk("d/sub")) },
			func() { os.Rename(r.disk("d/a"), r.disk("d/z")) },
			func() { os.Remove(r.disk("d/dir")); r.write("d/dir", "a file now") },
		} {
			open()
			change()
			close()
			r.mustSync()
			if st := r.mustCopy(); len(st.Failed) != 0 {
				t.Errorf("failed: %v", st.Failed)
			}
			r.checkSame()
		}
	})
}

// A file that cannot be placed leaves the rest applied, and heals.
func TestReplicaWithoutPermission(t *testing.T) {
	asNobody(t, func() {
		r, _ := judged(t)
		r.write("good", "1")
		r.write("shut/bad", "2")
		r.mustSync()
		shut := filepath.Join(r.replica, "shut")
		os.Mkdir(shut, 0o555) // a stranger's: its mode is not ours to change
		os.WriteFile(filepath.Join(r.replica, "here"), nil, 0o644)
		c := r.follow()
		defer os.Chmod(shut, 0o755)
		c.until("it is partial", func(st syncer.ReplicaStatus) bool { return st.State == syncer.StatePartial || len(st.Failed) > 0 })
		eventually(t, "the rest is applied", func() bool { return r.copied("good") == "1" })
		os.Chmod(shut, 0o755)
		c.until("it heals", func(st syncer.ReplicaStatus) bool { return st.State == syncer.StateReady && len(st.Failed) == 0 })
		if r.copied("shut/bad") != "2" {
			t.Errorf("got %q", r.copied("shut/bad"))
		}
	})
}

func TestOddFiles(t *testing.T) {
	r, _ := judged(t)
	r.write("good", "1")
	r.write("bad\xff", "2")
	r.write(".skyagent/x", "3")
	syscall.Mkfifo(r.disk("fifo"), 0o644)
	os.Symlink("good", r.disk("link"))
	st := r.mustSync()
	want := map[string]manifest.Skip{"bad\xff": manifest.SkipName, ".skyagent": manifest.SkipReserved, "fifo": manifest.SkipSpecial, "link": manifest.SkipSymlink}
	got := map[string]manifest.Skip{}
	for _, k := range st.Skipped {
		got[k.Name] = k.Why
	}
	if !maps.Equal(got, want) || st.Files != 1 {
		t.Errorf("skipped %v, status %+v", got, st)
	}
}
