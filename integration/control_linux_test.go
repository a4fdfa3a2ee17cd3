package integration_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

// stranger puts an object into the bucket without a word to anybody.
func stranger(t *testing.T, store objstore.Store, key, content string) {
	t.Helper()
	_, err := store.Put(t.Context(), key, strings.NewReader(content), int64(len(content)), objstore.PutOptions{})
	must(t, err)
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got := read(t, path); got != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

// TestMountRefresh wants what strangers wrote to be seen when refresh returns,
// by mounts that trust the bus and would not look for hours.
func TestMountRefresh(t *testing.T) {
	r := newRig(t)
	store := r.store(t)
	stranger(t, store, "dir/file", "one")
	dirs := r.mounts(t, 2, "--reconcile", "1h")
	wantFile(t, filepath.Join(dirs[0], "dir/file"), "one")
	wantFile(t, filepath.Join(dirs[0], "dir/new"), "")

	stranger(t, store, "dir/new", "new")
	wantFile(t, filepath.Join(dirs[0], "dir/new"), "") // else this test shows nothing
	stranger(t, store, "dir/file", "two, and longer")
	line := r.home.MustRun(t, "refresh", filepath.Join(dirs[0], "dir/file"))
	wantFile(t, filepath.Join(dirs[0], "dir/file"), "two, and longer")
	if line["mount"] != dirs[0] {
		t.Errorf("refreshed %v, want %s", line["mount"], dirs[0])
	}

	must(t, store.Delete(t.Context(), "dir/file"))
	r.home.MustRun(t, "refresh", filepath.Join(dirs[0], "dir"))
	wantFile(t, filepath.Join(dirs[0], "dir/new"), "new")
	wantFile(t, filepath.Join(dirs[0], "dir/file"), "")

	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dirs[1], link))
	r.home.MustRun(t, "refresh", filepath.Join(link, "dir/new"))
	wantFile(t, filepath.Join(link, "dir/new"), "new")
	wantWords(t, r.home.Run(t, "refresh", r.source), 1, dirs[1], r.source+" is in no mount")
}

// TestMountControlAfterKill wants the socket of a mount to serve nobody but its
// user, and what a killed mount left not to be in the way.
func TestMountControlAfterKill(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	killed := r.live(t, []string{"mount", r.url, dir})
	sockets := func() []string {
		found, err := filepath.Glob(filepath.Join(r.home.Dir, "run", "agents", "*.sock"))
		must(t, err)
		return found
	}
	left := sockets()
	if len(left) != 1 {
		t.Fatalf("sockets %v, want one", left)
	}
	fi, err := os.Stat(left[0])
	must(t, err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", fi.Mode())
	}
	killed.Kill()
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	p := r.live(t, []string{"mount", r.url, dir})
	stranger(t, r.store(t), "file", "x")
	r.home.MustRun(t, "refresh", filepath.Join(dir, "file"))
	wantFile(t, filepath.Join(dir, "file"), "x")
	if now := sockets(); len(now) != 1 || now[0] == left[0] {
		t.Errorf("sockets %v after %v was left", now, left)
	}
	stop(t, p)
	if now := sockets(); len(now) != 0 {
		t.Errorf("sockets %v of a mount that ended", now)
	}
}

// refusePuts is a store that takes nothing.
func refusePuts(req *http.Request) servers.Fault {
	if req.Method == http.MethodPut {
		return servers.Unavailable
	}
	return servers.Pass
}

// TestMountFlush wants flush to wait for what write-back has not brought to the
// bucket, and to say how much is left when its time is up.
func TestMountFlush(t *testing.T) {
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir, _ := r.mount(t, "--write-back")
	proxy.Decide(refusePuts)
	write(t, filepath.Join(dir, "file"), "x")
	wantWords(t, r.home.Run(t, "mount", "flush", dir, "--timeout", "100ms"), 1, "goes on bringing them",
		"mount "+dir+": ", "not in the bucket after 100ms")
	if got := read(t, r.object("file")); got != "" {
		t.Errorf("the bucket has %q of a store that takes nothing", got)
	}
	proxy.Decide(nil)
	line := r.home.MustRun(t, "mount", "flush")
	if line["mount"] != dir || line["left"] != 0.0 {
		t.Errorf("flush says %v", line)
	}
	wantFile(t, r.object("file"), "x")
}

// TestMountTruncateWaiting truncates by its name a file that waits in the
// journal, and is uploaded at once, as nobody has it open.
func TestMountTruncateWaiting(t *testing.T) {
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir, _ := r.mount(t, "--write-back")
	var refused atomic.Int64
	proxy.Decide(func(req *http.Request) servers.Fault {
		if req.Method == http.MethodPut {
			refused.Add(1)
		}
		return refusePuts(req)
	})
	write(t, filepath.Join(dir, "file"), "abc")
	truncated, before := make(chan error, 1), refused.Load()
	go func() { truncated <- os.Truncate(filepath.Join(dir, "file"), 1) }()
	waitFor(t, "further uploads", func() bool { return refused.Load() > before+1 })
	proxy.Decide(nil)
	must(t, <-truncated)
	r.home.MustRun(t, "mount", "flush")
	wantFile(t, r.object("file"), "a")
}
