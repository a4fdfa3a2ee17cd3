package syncer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// many writes n files and returns their paths.
func (r *rig) many(n int) []manifest.Path {
	var paths []manifest.Path
	for i := range n {
		p := fmt.Sprintf("d%02d/f%03d", i%10, i)
		r.write(p, fmt.Sprint(i))
		paths = append(paths, manifest.Path(p))
	}
	return paths
}

func (r *rig) objects() int {
	n := 0
	for _, key := range r.memory.Keys() {
		if !reserved(key) {
			n++
		}
	}
	return n
}

func (r *rig) remove(paths []manifest.Path) {
	for _, p := range paths {
		os.Remove(r.disk(string(p)))
	}
}

func TestMassDeletionIsHeld(t *testing.T) {
	for name, lose := range map[string]func(r *rig, paths []manifest.Path){
		"emptied":        func(r *rig, _ []manifest.Path) { empty(r.source) },
		"more than half": func(r *rig, paths []manifest.Path) { r.remove(paths[:70]) },
	} {
		r, _ := judged(t)
		paths := r.many(120)
		r.mustSync()
		lose(r, paths)
		r.write("new", "goes on")
		_, err := r.sync()
		var guarded *syncer.GuardedError
		if !errors.As(err, &guarded) || !strings.Contains(err.Error(), "nothing was deleted") {
			t.Errorf("%s: got %v", name, err)
		}
		if r.objects() != 121 || r.object("new") != "goes on" {
			t.Errorf("%s: %d objects are left", name, r.objects())
		}
		allow := func(o *syncer.SourceOptions) { o.AllowMassDelete = true }
		if _, err := r.sync(allow); err != nil {
			t.Errorf("%s, allowed: %v", name, err)
		}
		if want := len(listing(r.source)); r.objects() > want {
			t.Errorf("%s, allowed: %d objects, %d entries", name, r.objects(), want)
		}
	}
}

func empty(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

func TestFewDeletionsPass(t *testing.T) {
	r, _ := judged(t)
	paths := r.many(120)
	r.mustSync()
	r.remove(paths[:50])
	if st := r.mustSync(); st.Deleted != 50 || r.objects() != 70 {
		t.Errorf("%d deleted, %d objects", st.Deleted, r.objects())
	}
}

func TestGuardHealsWhenFilesReturn(t *testing.T) {
	r, _ := judged(t)
	paths := r.many(110)
	w := r.watch()
	w.becomes(syncer.StateReady)
	aside := filepath.Join(r.state, "aside")
	os.MkdirAll(aside, 0o755)
	for i := range 10 {
		os.Rename(r.disk(fmt.Sprintf("d%02d", i)), filepath.Join(aside, fmt.Sprint(i)))
	}
	w.tell(paths...)
	w.becomes(syncer.StateGuarded)
	if st := w.Status(); !strings.Contains(st.Reason, "all 110 files") || r.objects() != 110 {
		t.Errorf("status is %+v, %d objects", st, r.objects())
	}
	r.write("new", "1")
	w.tell("new")
	w.until("other work goes on", func(syncer.SourceStatus) bool { return r.object("new") == "1" })
	for i := range 10 {
		os.Rename(filepath.Join(aside, fmt.Sprint(i)), r.disk(fmt.Sprintf("d%02d", i)))
	}
	w.feed <- manifest.Batch{Rescan: "root"}
	for _, p := range paths {
		w.tell(p)
	}
	w.becomes(syncer.StateReady)
	if st := w.Status(); r.objects() != 111 || st.Deleted != 0 {
		t.Errorf("%d objects, status %+v", r.objects(), st)
	}
}

// Deletions that come a few at a time are seen together, also when each batch
// has long been let through as the next comes.
func TestMassDeletionThatTrickles(t *testing.T) {
	r, _ := judged(t)
	paths := r.many(150)
	w := r.watch()
	w.becomes(syncer.StateReady)
	left := func() int { return r.objects() }
	for len(paths) > 0 && w.Status().State != syncer.StateGuarded {
		n := min(30, len(paths))
		r.remove(paths[:n])
		w.tell(paths[:n]...)
		before := left()
		eventually(t, "they are deleted or held", func() bool {
			return left() == before-n || w.Status().State == syncer.StateGuarded
		})
		paths = paths[n:]
	}
	if w.Status().State != syncer.StateGuarded || left() < 75 {
		t.Errorf("%d objects are left, status %+v", left(), w.Status())
	}
}

// What was allowed is one mass deletion, to its end, and no other.
func TestAllowMassDeleteHoldsOnce(t *testing.T) {
	warm()
	synctest.Test(t, func(t *testing.T) {
		r, _ := judged(t)
		r.many(120)
		w := r.watch(func(o *syncer.SourceOptions) { o.AllowMassDelete = true })
		w.becomes(syncer.StateReady)
		empty(r.source)
		w.feed <- manifest.Batch{Rescan: "interval"}
		w.until("all is deleted", func(syncer.SourceStatus) bool { return r.objects() == 0 })
		paths := r.many(120)
		w.tell(paths...)
		w.until("all is back", func(st syncer.SourceStatus) bool {
			return r.objects() == 120 && st.State == syncer.StateReady
		})
		time.Sleep(2 * time.Minute)
		empty(r.source)
		w.feed <- manifest.Batch{Rescan: "interval"}
		w.becomes(syncer.StateGuarded)
		if r.objects() != 120 {
			t.Errorf("%d objects are left", r.objects())
		}
	})
}

// A directory with most files that is moved is no mass deletion, however long
// the copies inside the store take; its old names wait a while for them.
func TestMovedDirectoryIsNoMassDeletion(t *testing.T) {
	warm()
	for _, c := range []struct {
		far    time.Duration // how far away the store is
		copied int64         // at least
	}{{10 * time.Millisecond, 150}, {150 * time.Millisecond, 60}} {
		synctest.Test(t, func(t *testing.T) { moveDirectory(t, c.far, c.copied) })
	}
}

func moveDirectory(t *testing.T, far time.Duration, copied int64) {
	r, _ := judged(t)
	var paths []manifest.Path
	for i := range 150 {
		name := fmt.Sprintf("old/f%03d", i)
		r.write(name, strings.Repeat("x", i+1))
		paths = append(paths, manifest.Path(name), manifest.Path("new"+name[3:]))
	}
	w := r.watch(func(o *syncer.SourceOptions) { o.Workers = 1 })
	w.becomes(syncer.StateReady)
	r.memory.Before = func(op objstore.Op, key string) error {
		if op == objstore.OpCopy {
			time.Sleep(far)
		}
		return nil
	}
	os.Rename(r.disk("old"), r.disk("new"))
	w.tell(append(paths, "old", "new")...)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if st := w.Status(); st.State == syncer.StateGuarded {
			t.Fatalf("%v away: guarded, %s", far, st.Reason)
		}
	}
	if st := w.Status(); st.State != syncer.StateReady || r.objects() != 150 || st.CopiedFiles < copied || st.Deleted != 150 {
		t.Errorf("%v away: %d objects, status %+v", far, r.objects(), st)
	}
}

func TestRootThatVanishes(t *testing.T) {
	r, _ := judged(t)
	paths := r.many(5)
	w := r.watch()
	w.becomes(syncer.StateReady)
	os.Rename(r.source, r.source+".moved")
	defer os.RemoveAll(r.source + ".moved")
	w.feed <- manifest.Batch{Paths: paths, Rescan: "root"}
	w.becomes(syncer.StateGuarded)
	if st := w.Status(); !strings.Contains(st.Reason, "is gone") {
		t.Errorf("reason: %s", st.Reason)
	}
	os.Rename(r.source+".moved", r.source)
	w.becomes(syncer.StateReady)
	if r.objects() != 5 {
		t.Errorf("%d objects are left", r.objects())
	}
	// Another directory in its place is read, and what it lacks is a deletion again.
	os.Rename(r.source, r.source+".moved")
	os.Mkdir(r.source, 0o755)
	r.write("d00/f000", "another")
	w.feed <- manifest.Batch{Rescan: "root"}
	w.until("the new directory is read", func(syncer.SourceStatus) bool { return r.object("d00/f000") == "another" })
}

func TestRootOnAnotherDevice(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "skyagent")
	if err != nil {
		t.Skipf("NOT TESTED: there is no second device here: %v", err)
	}
	defer os.RemoveAll(other)
	r, _ := judged(t)
	real := r.source
	r.source = filepath.Join(t.TempDir(), "mount")
	os.Symlink(real, r.source)
	paths := r.many(5)
	w := r.watch()
	w.becomes(syncer.StateReady)
	os.Remove(r.source)
	os.Symlink(other, r.source)
	w.feed <- manifest.Batch{Paths: paths, Rescan: "root"}
	w.becomes(syncer.StateGuarded)
	if st := w.Status(); !strings.Contains(st.Reason, "another device") {
		t.Errorf("reason: %s", st.Reason)
	}
	os.Remove(r.source)
	os.Symlink(real, r.source)
	w.becomes(syncer.StateReady)
	if r.objects() != 5 {
		t.Errorf("%d objects are left", r.objects())
	}
}

func TestRootMissingAtStart(t *testing.T) {
	r, _ := judged(t)
	r.many(5)
	r.mustSync()
	os.RemoveAll(r.source)
	if _, err := r.sync(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	os.WriteFile(r.source, nil, 0o644)
	if _, err := r.sync(); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: got %v", err)
	}
	if r.objects() != 5 {
		t.Errorf("%d objects are left", r.objects())
	}
}
