package integration_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const edits = 500

// TestGoTree keeps the Go toolchain's own sources in step, at first and while
// they change.
func TestGoTree(t *testing.T) {
	r := newRig(t)
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	copyTree(t, filepath.Join(strings.TrimSpace(string(out)), "src"), r.source)
	keepsTree(t, r)
}

// keepsTree pushes the source's tree, copies it, changes it while both run, and
// says how long everything took.
func keepsTree(t *testing.T, r *rig) {
	rng := seeded(t)
	files, bytes := size(t, r.source)
	began := time.Now()
	watch := r.watch(t)
	t.Logf("pushed %d files, %d MB in %.1f s", files, bytes/1e6, time.Since(began).Seconds())
	began = time.Now()
	replica := r.copy(t)
	t.Logf("copied to a replica in %.1f s", time.Since(began).Seconds())
	if d := differences(r.source, r.replica); d != nil {
		t.Fatalf("after the first copy:\n%s", strings.Join(d, "\n"))
	}

	e := newEditor(t, r.source, rng)
	began = time.Now()
	for range edits {
		e.edit()
		if e.rng.IntN(10) == 0 { // people and tools pause
			time.Sleep(time.Duration(e.rng.IntN(20)) * time.Millisecond)
		}
	}
	last := time.Now()
	waitSame(t, r.source, r.replica, e.names()...)
	t.Logf("%d edits within %.2f s: %v", edits, last.Sub(began).Seconds(), e.counts)
	t.Logf("IDENTICAL %.2f s AFTER THE LAST EDIT (target 2 s)", time.Since(last).Seconds())
	if d := differences(r.source, r.replica); d != nil {
		t.Fatalf("after the edits:\n%s", strings.Join(d, "\n"))
	}
	stop(t, replica, watch)
	if log := watch.Stderr() + replica.Stderr(); log != "" {
		t.Logf("said on standard error:\n%s", log)
	}
}
