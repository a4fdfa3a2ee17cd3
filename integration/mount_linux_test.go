package integration_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/program"
)

// mount mounts the rig's bucket at a new directory and waits until it is there.
func (r *rig) mount(t *testing.T, args ...string) (string, *program.Process) {
	t.Helper()
	dir := t.TempDir()
	p := r.live(t, append([]string{"mount", r.url, dir}, args...))
	t.Cleanup(func() {
		if code := p.Stop(); code != 0 {
			t.Errorf("mount ended with %d: %s", code, p.Stderr())
		}
	})
	return dir, p
}

// promises are what a mount does not do, and how it says so.
func promises() posix.Profile {
	return posix.Profile{
		Name: "skyagent",
		Refuses: map[posix.Feature]unix.Errno{
			posix.HardLinks: unix.EPERM, posix.Symlinks: unix.EPERM, posix.FIFOs: unix.EPERM, posix.Sockets: unix.EPERM,
			posix.Devices: unix.EPERM, posix.ExchangeNames: unix.EINVAL, posix.Whiteouts: unix.EINVAL,
			posix.TmpFiles: unix.EOPNOTSUPP, posix.Chown: unix.EPERM, posix.ExecBit: unix.EACCES,
			posix.Xattrs:  unix.EOPNOTSUPP,
			posix.NotUTF8: unix.EINVAL,
		},
		Ignores: map[posix.Feature]bool{posix.SpecialBits: true, posix.AccessTimes: true},
		Entries: 500,
	}
}

func TestMountPosix(t *testing.T) {
	r := newRig(t)
	dir, _ := r.mount(t)
	posix.Suite(t, dir, promises())
}

func TestMountFSX(t *testing.T) {
	r := newRig(t)
	dir, _ := r.mount(t)
	ops, rarely := 25_000, 8 // of each seed: 100,000 in all
	if os.Getenv("SKYAGENT_LONG") != "" {
		ops, rarely = 2_500_000, 500
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			posix.FSX(t, dir, seed, ops, posix.FSXOptions{MMap: seed%2 == 1, MaxSize: 1 << 20, CloseOpen: true, Fsync: true, Rarely: rarely})
		})
	}
}
