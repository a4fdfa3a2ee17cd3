package watcher_test

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/watcher"
)

func TestOpenForWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	is := func(want watcher.State) {
		t.Helper()
		if got := watcher.OpenForWriting(path); got != want {
			t.Errorf("state %v, want %v", got, want)
		}
	}
	is(watcher.Gone)
	f, err := os.Create(path)
	must(t, err)
	is(watcher.Busy)
	r, err := os.Open(path)
	must(t, err)
	must(t, f.Close())
	is(watcher.Free)
	must(t, r.Close())

	rw, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	must(t, rw.Truncate(4096))
	m, err := syscall.Mmap(int(rw.Fd()), 0, 4096, syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	must(t, rw.Close())
	is(watcher.Busy) // through the map
	must(t, syscall.Munmap(m))
	is(watcher.Free)

	must(t, os.Remove(path))
	must(t, os.Symlink("elsewhere", path))
	is(watcher.Free)
	must(t, os.Remove(path))
	must(t, syscall.Mkfifo(path, 0o600))
	watcher.OpenForWriting(path) // must not block, if it ever comes to that
}

// TestLeaseDelaysNobody opens a file for writing again and again while it is
// asked about: the signals of broken leases do no harm, and nobody waits for
// anything like the kernel's lease-break-time.
func TestLeaseDelaysNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, nil, 0o644))
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				watcher.OpenForWriting(path)
			}
		}
	})
	var longest time.Duration
	for range 20_000 {
		began := time.Now()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		longest = max(longest, time.Since(began))
		must(t, err)
		f.Close()
	}
	close(stop)
	asking.Wait()
	if longest > 5*time.Second {
		t.Errorf("an open took %v", longest)
	}
	t.Logf("longest open %v", longest)
}

// TestLeaseOnAnotherOwnersFile: without CAP_LEASE the kernel does not say.
func TestLeaseOnAnotherOwnersFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may lease everything")
	}
	if got := watcher.OpenForWriting("/etc/passwd"); got != watcher.Unknown {
		t.Errorf("state %v", got)
	}
}
