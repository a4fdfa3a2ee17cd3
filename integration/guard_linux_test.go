package integration_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGuardUnmounted unmounts the source under the watch. It needs root, as
// mounting does.
func TestGuardUnmounted(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a tmpfs needs root; run the tests as root or in a container to have this one")
	}
	var r *rig
	r, watch, replica := guarded(t, func(r *rig) { mount(t, r.source) })
	must(t, unix.Unmount(r.source, unix.MNT_DETACH))
	wantKept(t, r)
	mount(t, r.source)
	fill(t, r.source)
	wantHealed(t, r)
	stop(t, replica, watch)
}

func mount(t *testing.T, dir string) {
	t.Helper()
	must(t, unix.Mount("skyagent-test", dir, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}
