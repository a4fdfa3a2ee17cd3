package integration_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

// TestMountWriteBackKilled kills a mount with write-back in the middle of many
// writes: what a close had returned for is in the bucket, whole, after the next
// start, and was there to be read before.
func TestMountWriteBackKilled(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	start := func() *program.Process { return r.live(t, []string{"mount", r.url, dir, "--write-back"}) }
	for range 3 {
		p := start()
		d := newDesk(t, []string{dir, dir, dir, dir}, syscall.ENOTCONN, syscall.ECONNABORTED)
		d.waitAcks(t, 50)
		p.Kill()
		d.waitErrs(t, 1)
		d.stop()
		p = start()
		for _, s := range d.scribes {
			for k := range scribeFiles {
				if err := s.readIn(dir, k); err != nil {
					t.Errorf("after the start: %v", err)
				}
			}
		}
		d.finish(t, r, dir)
		stop(t, p)
	}
}

// TestMountWriteBackKilledAgain kills a mount while a file is written again that
// waits in the journal: the bucket gets what the last close returned for, and
// none of what came after.
func TestMountWriteBackKilledAgain(t *testing.T) {
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir := t.TempDir()
	start := func() *program.Process { return r.live(t, []string{"mount", r.url, dir, "--write-back"}) }
	p := start()
	proxy.Decide(refusePuts)
	versions := map[string]string{"patched": "a first version", "longer": "short", "shorter": "a long one", "emptied": "content", "rewritten": "second"}
	write(t, filepath.Join(dir, "rewritten"), "first")
	var open []*os.File
	for name, content := range versions {
		write(t, filepath.Join(dir, name), content)
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		must(t, err)
		open = append(open, file)
		switch name {
		case "shorter":
			must(t, file.Truncate(1))
		case "emptied":
			must(t, file.Truncate(0))
		default:
			_, err := file.WriteAt([]byte("half of the next"), int64(len(content)/2))
			must(t, err)
		}
	}
	p.Kill()
	for _, file := range open {
		file.Close()
	}
	proxy.Decide(nil)
	p = start()
	r.home.MustRun(t, "mount", "flush", dir)
	for name, content := range versions {
		wantFile(t, r.object(name), content)
	}
	stop(t, p)
}

// TestMountDead mounts where a killed mount left its dead mount point.
func TestMountDead(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	p := r.live(t, []string{"mount", r.url, dir})
	write(t, filepath.Join(dir, "f"), "kept")
	p.Kill()
	if _, err := os.Stat(filepath.Join(dir, "f")); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("stat in a dead mount: %v", err)
	}
	again := r.live(t, []string{"mount", r.url, dir})
	defer stop(t, again)
	if got := read(t, filepath.Join(dir, "f")); got != "kept" {
		t.Errorf("f holds %q", got)
	}
}

// TestMountBusCut cuts the bus: what others write is read within two seconds
// all the same, also under names that were looked up before and not found.
func TestMountBusCut(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	a, _ := r.mount(t, "--nats", nats.URL)
	b, _ := r.mount(t, "--nats", nats.URL)
	r.waitMounts(t, 2, nats.URL)
	write(t, filepath.Join(a, "old"), "one")
	waitFor(t, "old", func() bool { return contains(b, "old", "one") })
	if _, err := os.Stat(filepath.Join(b, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	nats.Kill()
	write(t, filepath.Join(a, "old"), "two")
	write(t, filepath.Join(a, "new"), "new")
	took := waitFor(t, "the old name", func() bool { return contains(b, "old", "two") })
	more := waitFor(t, "the new name", func() bool { return contains(b, "new", "new") })
	t.Logf("without the bus: a known name after %v, a new one %v later", took, more)
}

func contains(dir, name, want string) bool {
	b, err := os.ReadFile(filepath.Join(dir, name))
	return err == nil && string(b) == want
}

// TestMountStoreLost takes the store away under writers and readers of two
// mounts, and gives it back: what was acknowledged is there, errors are EIO,
// what is cached is read and listed meanwhile, and all goes on by itself.
func TestMountStoreLost(t *testing.T) {
	for _, how := range []string{"frozen", "stopped"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			dirs := r.mounts(t, 2, "--timeout", "1s")
			write(t, filepath.Join(dirs[0], "cached"), "cached")
			_, err := r.store(t).Put(t.Context(), "uncached", strings.NewReader("x"), 1, objstore.PutOptions{})
			must(t, err)
			r.home.MustRun(t, "refresh", dirs[0])
			d := newDesk(t, append(dirs, dirs...), storeAway...)
			d.waitAcks(t, 20)
			lost := time.Now()
			if how == "frozen" {
				r.server.Freeze()
				t.Cleanup(r.server.Thaw) // should the test fail
			} else {
				r.server.Stop()
			}
			d.waitErrs(t, 1)
			if _, err := os.ReadFile(filepath.Join(dirs[0], "uncached")); !errors.Is(err, syscall.EIO) {
				t.Errorf("read of what is not cached: %v, want EIO", err)
			}
			for again := true; again; again = os.Getenv("SKYAGENT_LONG") != "" && time.Since(lost) < time.Minute {
				if got := read(t, filepath.Join(dirs[0], "cached")); got != "cached" {
					t.Errorf("cached holds %q", got)
				}
				if names, err := os.ReadDir(dirs[0]); err != nil || len(names) < 4*scribeFiles+2 {
					t.Errorf("ls shows %d names, %v", len(names), err)
				}
				d.waitErrs(t, 1)
			}
			if how == "frozen" {
				r.server.Thaw()
			} else {
				r.server.Start(t)
			}
			d.waitAcks(t, 20)
			if got := read(t, filepath.Join(dirs[0], "uncached")); got != "x" {
				t.Errorf("uncached holds %q", got)
			}
			d.finish(t, r, dirs...)
		})
	}
}

// TestMountBusFlaps takes the bus away and gives it back, several times, under
// writers and readers of two mounts: no write is lost; once both trust the bus
// again, no read misses a write whose close had returned before; and in the end
// all show what the bucket has.
func TestMountBusFlaps(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	a, _ := r.mount(t, "--nats", nats.URL)
	b, _ := r.mount(t, "--nats", nats.URL)
	r.waitMounts(t, 2, nats.URL)
	d := newDesk(t, []string{a, b, a, b})
	trusted := func() {
		r.waitMounts(t, 2, nats.URL)
		d.lax.Store(false)
		d.waitAcks(t, 20)
	}
	for flap := range 6 {
		d.lax.Store(true) // one may be on the bus again before the other
		if flap%2 == 0 {
			nats.Kill()
			d.waitAcks(t, 10)
			nats.Start(t)
		} else {
			nats.Freeze()
			t.Cleanup(nats.Thaw)
			d.waitAcks(t, 10)
			nats.Thaw()
		}
		if flap > 1 {
			d.waitAcks(t, 5) // gone again before all is well
			continue
		}
		trusted()
	}
	trusted()
	d.finish(t, r, a, b)
}

// TestMountStoreAway lets the store answer with errors for a while: a listing
// goes on, a write and a read of what is not cached fail or wait, no longer than
// the timeout, and all is well when the store is back, without a restart.
func TestMountStoreAway(t *testing.T) {
	r := newRig(t)
	const there = "content of there"
	_, err := r.store(t).Put(t.Context(), "there", strings.NewReader(there), int64(len(there)), objstore.PutOptions{})
	must(t, err)
	var away atomic.Bool
	proxy := servers.NewProxy(t, r.server.Endpoint)
	proxy.Decide(func(*http.Request) servers.Fault {
		if away.Load() {
			return servers.Unavailable
		}
		return 0
	})
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir, _ := r.mount(t, "--timeout", "2s")
	away.Store(true)
	began := time.Now()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("ls: %v, %v", entries, err)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "there")); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("mine"), 0o644); !errors.Is(err, syscall.EIO) {
		t.Errorf("write: %v, want EIO", err)
	}
	t.Logf("three errors in %v", time.Since(began))
	away.Store(false)
	waitFor(t, "reads to work again", func() bool { return contains(dir, "there", "content of there") })
	waitFor(t, "the write to reach the bucket", func() bool {
		b, err := os.ReadFile(r.object("mine"))
		return err == nil && string(b) == "mine"
	})
}

// TestMountDiskFull has no room for what is written: the writer is told, and the
// same mount goes on when there is room again.
func TestMountDiskFull(t *testing.T) {
	r := newRig(t)
	state := t.TempDir()
	must(t, unix.Mount("tmpfs", state, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() {
		if err := unix.Unmount(state, 0); err != nil {
			t.Errorf("unmount the state's disk: %v", err)
		}
	})
	r.home.Env = append(r.home.Env, "SKYAGENT_HOME="+state)
	for _, mode := range []string{"", "--write-back"} {
		t.Run("with"+mode, func(t *testing.T) {
			args := []string{"--cache-dir", t.TempDir()}
			if mode != "" {
				args = append(args, mode)
			}
			dir, _ := r.mount(t, args...)
			name := "small" + mode
			write(t, filepath.Join(dir, name), "small")
			err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 16<<20), 0o644)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("16 MiB on a disk of 8: %v, want ENOSPC", err)
			}
			if got := read(t, filepath.Join(dir, name)); got != "small" {
				t.Errorf("the small file holds %q", got)
			}
			must(t, os.Remove(filepath.Join(dir, "large")))
			waitFor(t, "room for another file", func() bool {
				return os.WriteFile(filepath.Join(dir, "again"), make([]byte, 4<<20), 0o644) == nil
			})
			waitFor(t, "it to be in the bucket", func() bool {
				fi, err := os.Stat(r.object("again"))
				return err == nil && fi.Size() == 4<<20
			})
		})
	}
}
