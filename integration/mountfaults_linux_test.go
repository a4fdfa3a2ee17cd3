package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

// TestMountWriteBackKilled kills a mount in the middle of writes with
// write-back: what a close had returned for is in the bucket after the next start.
func TestMountWriteBackKilled(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	acked := map[string]string{}
	start := func() *program.Process { return r.live(t, []string{"mount", r.url, dir, "--write-back"}) }
	for life := range 3 {
		p := start()
		var i int
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for ; ; i++ {
				name, content := fmt.Sprintf("%d-%d", life, i%40), fmt.Sprintf("life %d write %d %s", life, i, strings.Repeat("x", i*37%9000))
				if os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) != nil {
					return
				}
				acked[name] = content
			}
		}()
		waitFor(t, "some uploads", func() bool {
			entries, _ := os.ReadDir(filepath.Dir(r.object("x")))
			return len(entries) > 10*(life+1)
		})
		p.Kill()
		<-ended
	}
	p := start()
	defer stop(t, p)
	for name, want := range acked {
		if got := read(t, filepath.Join(dir, name)); got != want && !laterWrite(got, want) {
			t.Errorf("%s holds %.40q, want %.40q", name, got, want)
		}
	}
	for name, want := range acked {
		waitFor(t, name+" to be in the bucket", func() bool {
			b, err := os.ReadFile(r.object(name))
			return err == nil && (string(b) == want || laterWrite(string(b), want))
		})
	}
}

// laterWrite reports whether got is a write that was under way, after the one
// that was acknowledged.
func laterWrite(got, want string) bool {
	var life, n, life2, m int
	_, err1 := fmt.Sscanf(got, "life %d write %d", &life, &n)
	_, err2 := fmt.Sscanf(want, "life %d write %d", &life2, &m)
	return err1 == nil && err2 == nil && life == life2 && n == m+40
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
