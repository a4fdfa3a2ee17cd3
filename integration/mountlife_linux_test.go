package integration_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

// TestMountTwice mounts where something is mounted: it is refused, and what is
// there goes on.
func TestMountTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir, _ := r.mount(t)
	write(t, filepath.Join(dir, "f"), "content")
	for _, storage := range []string{r.url, "s3://" + r.server.NewBucket(t)} {
		wantWords(t, r.home.Run(t, "mount", storage, dir), 1, "unmount it first", "mount "+dir, "mounted already")
	}
	if got := read(t, filepath.Join(dir, "f")); got != "content" {
		t.Errorf("f holds %q", got)
	}
}

// TestMountLeft ends a mount whose store takes nothing after a close that failed:
// the end says what is left, and the next start brings it to the bucket.
func TestMountLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir := t.TempDir()
	p := r.live(t, []string{"mount", r.url, dir})
	proxy.Decide(forbidChanges)
	if err := os.WriteFile(filepath.Join(dir, "left"), []byte("content"), 0o644); !errors.Is(err, syscall.EACCES) {
		t.Errorf("close: %v, want EACCES", err)
	}
	code := p.Stop()
	if said := p.Stderr(); code != 1 || !strings.Contains(said, "upload left") || !strings.Contains(said, "hint: it is kept on this machine") {
		t.Errorf("the mount ended with %d: %s", code, said)
	}
	proxy.Decide(nil)
	p = r.live(t, []string{"mount", r.url, dir})
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("left"), "content")
	stop(t, p)
}

// TestMountBusy ends mounts that programs use: one whose program leaves is not
// taken away from it, one whose program does not is, with an error.
func TestMountBusy(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{true, false} {
		t.Run(fmt.Sprintf("leaves=%v", leaves), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			dir := t.TempDir()
			p := r.live(t, []string{"mount", r.url, dir})
			f, err := os.Create(filepath.Join(dir, "f"))
			must(t, err)
			defer f.Close()
			must(t, syscall.Kill(p.PID(), syscall.SIGTERM))
			waitFor(t, "the mount to wait", func() bool { return strings.Contains(p.Stderr(), "mount is in use") })
			if leaves {
				_, err := f.WriteString("content")
				must(t, err)
				must(t, f.Close())
				if code := p.Ended(); code != 0 {
					t.Errorf("ended with %d: %s", code, p.Stderr())
				}
				wantFile(t, r.object("f"), "content")
				return
			}
			code := p.Ended()
			if said := p.Stderr(); code != 1 || !strings.Contains(said, "error: unmount "+dir+": programs still use it\nhint: ") {
				t.Errorf("ended with %d: %s", code, said)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("the mount point: %v, %v", entries, err)
			}
		})
	}
}

// TestMountTruncateRetried truncates a file by its path while the store is away:
// the call fails, and the bucket has the change when the store is back.
func TestMountTruncateRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir, _ := r.mount(t, "--timeout", "1s")
	write(t, filepath.Join(dir, "f"), "content")
	proxy.Decide(refusePuts)
	if err := os.Truncate(filepath.Join(dir, "f"), 4); !errors.Is(err, syscall.EIO) {
		t.Errorf("truncate: %v, want EIO", err)
	}
	proxy.Decide(nil)
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("f"), "cont")
}

// TestMountPoints mounts at places that do not suit: each is refused by a line
// that names it and a hint.
func TestMountPoints(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir := t.TempDir()
	file, full := filepath.Join(dir, "file"), filepath.Join(dir, "full")
	write(t, file, "")
	write(t, filepath.Join(full, "mine"), "mine")
	wantWords(t, r.home.Run(t, "mount", r.url, filepath.Join(file, "d")), 1, "choose a directory", "mount point: mkdir "+file, "not a directory")
	wantWords(t, r.home.Run(t, "mount", r.url, full), 1, "--allow-non-empty", "mount "+full, "not empty")
	stop(t, r.live(t, []string{"mount", r.url, full, "--allow-non-empty"}))
	if got := read(t, filepath.Join(full, "mine")); got != "mine" {
		t.Errorf("mine holds %q", got)
	}
}
