package integration_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// lockMounts starts mounts whose locks hold between them.
func (r *rig) lockMounts(t *testing.T, nats string, n int, args ...string) (dirs []string, processes []*program.Process) {
	t.Helper()
	for range n {
		dir, p := r.mount(t, append([]string{"--nats", nats, "--locks"}, args...)...)
		dirs, processes = append(dirs, dir), append(processes, p)
	}
	r.waitMounts(t, n, nats)
	return dirs, processes
}

func lockNATS(t *testing.T) *servers.NATSServer {
	return servers.NATS(t, servers.NATSOptions{JetStream: true})
}

// TestMountPosixLocks has a mount whose locks hold between workers lock as a
// local file system does.
func TestMountPosixLocks(t *testing.T) {
	r := newRig(t)
	dirs, _ := r.lockMounts(t, lockNATS(t).URL, 1)
	posix.Suite(t, dirs[0], promises())
}

// TestMountLockCounter has processes on two mounts count in one file under a
// lock: no count is lost, and no close fails.
func TestMountLockCounter(t *testing.T) {
	for _, how := range [][]string{nil, {"--write-back"}} {
		r := newRig(t)
		dirs, _ := r.lockMounts(t, lockNATS(t).URL, 2, how...)
		for _, way := range []string{posix.CountFlock, posix.CountFcntl, posix.CountAppend, posix.CountReopen} {
			if len(how) > 0 && way == posix.CountReopen {
				continue // what is not locked itself is uploaded later
			}
			t.Run(way, func(t *testing.T) { posix.Counter(t, dirs, 6, 25, way) })
		}
		if beside, _ := filepath.Glob(filepath.Join(dirs[0], "*conflict*")); len(beside) > 0 {
			t.Errorf("kept beside: %v", beside)
		}
	}
}

// tryLock reports whether a file's flock can be had now.
func tryLock(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	err = flockOf(f, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err == nil
}

func flockOf(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

func lockFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	must(t, flockOf(f, unix.LOCK_EX))
	return f
}

// TestMountLockOfTheKilled kills a mount that holds a lock: others get it when
// its lease has run out.
func TestMountLockOfTheKilled(t *testing.T) {
	r := newRig(t)
	nats := lockNATS(t)
	dirs, _ := r.lockMounts(t, nats.URL, 1)
	write(t, filepath.Join(dirs[0], "f"), "x")
	dir := t.TempDir()
	p := r.live(t, []string{"mount", r.url, dir, "--nats", nats.URL, "--locks"})
	held := lockFile(t, filepath.Join(dir, "f"))
	if tryLock(t, filepath.Join(dirs[0], "f")) {
		t.Fatal("two hold the lock")
	}
	p.Kill()
	took := waitFor(t, "the lock to be free", func() bool { return tryLock(t, filepath.Join(dirs[0], "f")) })
	t.Logf("free %v after the kill", took)
	held.Close()
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
}

// TestMountLockWaits has the flock program wait for another worker's lock, until
// it gets it, and until a signal.
func TestMountLockWaits(t *testing.T) {
	r := newRig(t)
	dirs, _ := r.lockMounts(t, lockNATS(t).URL, 2)
	held := lockFile(t, filepath.Join(dirs[0], "f"))
	must(t, held.Sync())
	other := filepath.Join(dirs[1], "f")
	start := func() *exec.Cmd {
		var stderr bytes.Buffer
		cmd := exec.Command("flock", "--verbose", other, "true")
		cmd.Stdout, cmd.Stderr = &stderr, &stderr
		must(t, cmd.Start())
		waitFor(t, "flock to wait", func() bool {
			b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "syscall"))
			return bytes.HasPrefix(b, []byte("73 ")) || bytes.HasPrefix(b, []byte("32 ")) // flock on amd64, arm64
		})
		return cmd
	}
	interrupted := start()
	must(t, interrupted.Process.Signal(syscall.SIGTERM))
	err := interrupted.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("flock ended with %v, want by SIGTERM", err)
	}
	waiting := start()
	must(t, held.Close())
	must(t, waiting.Wait())
	if !tryLock(t, other) {
		t.Error("the lock is held by nobody, and not to be had")
	}
}

// TestMountLockWithoutBus wants ENOLCK where no bus answers, and a holder of a
// lock that was lost to write no more.
func TestMountLockWithoutBus(t *testing.T) {
	r := newRig(t)
	nats := lockNATS(t)
	dirs, _ := r.lockMounts(t, nats.URL, 1)
	path := filepath.Join(dirs[0], "f")
	write(t, path, "before")
	held := lockFile(t, path)
	_, err := held.WriteAt([]byte("under"), 0)
	must(t, err)
	nats.Kill()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	if err := flockOf(f, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("lock of a file that is locked here: %v, want EWOULDBLOCK", err)
	}
	g, err := os.Create(filepath.Join(dirs[0], "g"))
	must(t, err)
	defer g.Close()
	if err := flockOf(g, unix.LOCK_EX); !errors.Is(err, unix.ENOLCK) {
		t.Errorf("lock without a bus: %v, want ENOLCK", err)
	}
	waitFor(t, "the lock to be lost", func() bool {
		_, err := held.WriteAt([]byte("under"), 0)
		return errors.Is(err, unix.ESTALE)
	})
	if err := held.Close(); !errors.Is(err, unix.ESTALE) {
		t.Errorf("close after the loss: %v, want ESTALE", err)
	}
	wantFile(t, path, "before")
	beside, _ := filepath.Glob(path + ".skyagent-conflict-*")
	if len(beside) != 1 {
		t.Fatalf("kept beside: %v", beside)
	}
	wantFile(t, beside[0], "undere")
	must(t, os.WriteFile(path, []byte("again"), 0o644))
	wantFile(t, path, "again")
}
