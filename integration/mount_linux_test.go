package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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

// TestMountOrdinaryUser mounts as somebody who may not mount, through fusermount3,
// and is told what others need to be let in.
func TestMountOrdinaryUser(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	r.home.User = 65534
	for _, d := range []string{r.home.Dir, dir} {
		letIn(t, d, int(r.home.User))
	}
	allowFuse(t)
	p := r.live(t, []string{"mount", r.url, dir})
	as := func(line string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.home.User, Gid: r.home.User}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	as("echo content > " + filepath.Join(dir, "f") + " && grep -q content " + filepath.Join(dir, "f"))
	if got := read(t, r.object("f")); got != "content\n" {
		t.Errorf("the bucket has %q", got)
	}
	stop(t, p)
	as("test -z \"$(ls " + dir + ")\"") // it is unmounted
}

// letIn gives dir to a user, and lets him reach it.
func letIn(t *testing.T, dir string, user int) {
	t.Helper()
	must(t, os.Chown(dir, user, user))
	for ; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

// allowFuse lets everybody open /dev/fuse, as udev does, where nobody has done it.
func allowFuse(t *testing.T) {
	t.Helper()
	fi, err := os.Stat("/dev/fuse")
	must(t, err)
	if fi.Mode().Perm()&0o006 == 0o006 {
		return
	}
	must(t, os.Chmod("/dev/fuse", 0o666))
	t.Cleanup(func() { must(t, os.Chmod("/dev/fuse", fi.Mode().Perm())) })
}
