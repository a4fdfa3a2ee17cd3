package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
)

// guarded is a watched tree with a replica that something is about to happen to.
func guarded(t *testing.T, prepare func(r *rig)) (*rig, *program.Process, *program.Process) {
	r := newRig(t)
	if prepare != nil {
		prepare(r)
	}
	fill(t, r.source)
	watch := r.watch(t)
	return r, watch, r.copy(t, "--poll", "1s")
}

func fill(t *testing.T, dir string) {
	t.Helper()
	for i := range 120 {
		write(t, filepath.Join(dir, fmt.Sprintf("d%d/f%d", i%7, i)), fmt.Sprint("content ", i))
	}
}

// wantKept waits for GUARDED and wants bucket and replica to hold all 120 files.
func wantKept(t *testing.T, r *rig) {
	t.Helper()
	st := r.waitState(t, "GUARDED", "READY")
	t.Logf("GUARDED: %s", st.Sources[0].Reason)
	if n, _ := size(t, r.replica); n != 120 {
		t.Errorf("the replica has %d files, want 120", n)
	}
	for i := range 120 {
		if read(t, r.object(fmt.Sprintf("d%d/f%d", i%7, i))) == "" {
			t.Fatalf("f%d is gone from the bucket", i)
		}
	}
}

// wantHealed waits for READY and wants changes to travel again.
func wantHealed(t *testing.T, r *rig) {
	t.Helper()
	r.waitState(t, "READY", "READY")
	write(t, filepath.Join(r.source, "after"), "back again")
	must(t, os.Remove(filepath.Join(r.source, "d0/f0")))
	waitSame(t, r.source, r.replica)
}

func TestGuardEmptied(t *testing.T) {
	t.Parallel()
	r, watch, replica := guarded(t, nil)
	for _, name := range listed(r.source) {
		must(t, os.RemoveAll(filepath.Join(r.source, name)))
	}
	wantKept(t, r)
	began := time.Now()
	fill(t, r.source)
	wantHealed(t, r)
	t.Logf("healed %s after the files began to come back", time.Since(began).Round(time.Millisecond))

	// Once more, and meant.
	for _, name := range listed(r.source) {
		must(t, os.RemoveAll(filepath.Join(r.source, name)))
	}
	st := r.waitState(t, "GUARDED", "READY")
	t.Logf("GUARDED after %s: %s", time.Since(began).Round(time.Millisecond), st.Sources[0].Reason)
	stop(t, watch)
	wantWords(t, r.home.Run(t, "sync", r.source, "--to", r.url, "-q"), 1, "--allow-mass-delete", "files are gone from the source", "nothing was deleted")
	line := r.home.MustRun(t, "sync", r.source, "--to", r.url, "--allow-mass-delete")
	if line["files"] != 0.0 || line["deleted"] != 120.0 {
		t.Errorf("with --allow-mass-delete: %v", line)
	}
	waitSame(t, r.source, r.replica)
	stop(t, replica)
}

func TestGuardMovedAway(t *testing.T) {
	t.Parallel()
	r, watch, replica := guarded(t, nil)
	elsewhere := r.source + "-elsewhere"
	must(t, os.Rename(r.source, elsewhere))
	wantKept(t, r)
	must(t, os.Rename(elsewhere, r.source))
	wantHealed(t, r)
	stop(t, replica, watch)
}

func TestGuardRemoved(t *testing.T) {
	t.Parallel()
	r, watch, replica := guarded(t, nil)
	must(t, os.RemoveAll(r.source))
	wantKept(t, r)
	fill(t, r.source)
	wantHealed(t, r)
	stop(t, replica, watch)
}
