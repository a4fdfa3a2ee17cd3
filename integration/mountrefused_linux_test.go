package integration_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

// TestMountRefused takes the right to write from a mount with write-back: what
// its closes returned for is said to wait by flush, by status and at the end,
// and is in the bucket when the right is back, also after another start.
func TestMountRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir := t.TempDir()
	start := func() *program.Process { return r.live(t, []string{"mount", r.url, dir, "--write-back"}) }
	p := start()
	must(t, os.Mkdir(filepath.Join(dir, "before"), 0o755))
	r.home.MustRun(t, "mount", "flush", dir)
	proxy.Decide(forbidChanges)
	write(t, filepath.Join(dir, "promised"), "content")
	must(t, os.Mkdir(filepath.Join(dir, "made"), 0o755))
	must(t, os.Remove(filepath.Join(dir, "before")))
	wantWords(t, r.home.Run(t, "mount", "flush", dir), 1, "", "flush the mount "+dir, "promised", "permission denied")
	r.waitDegraded(t, "promised")
	if code := p.Stop(); code != 1 || !strings.Contains(p.Stderr(), "promised") {
		t.Errorf("the mount ended with %d: %s", code, p.Stderr())
	}
	proxy.Decide(nil)
	p = start()
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("promised"), "content")
	if fi, err := os.Stat(r.object("made")); err != nil || !fi.IsDir() {
		t.Errorf("made: %v, %v", fi, err)
	}
	if _, err := os.Stat(r.object("before")); !os.IsNotExist(err) {
		t.Errorf("before: %v", err)
	}
	stop(t, p)
}

// forbidChanges refuses what changes the bucket.
func forbidChanges(req *http.Request) servers.Fault {
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return servers.Pass
	}
	return servers.Forbid
}

// waitDegraded waits until the rig's mount says that it is degraded because of
// what words are about.
func (r *rig) waitDegraded(t *testing.T, words string) {
	t.Helper()
	waitFor(t, "the mount to say what waits", func() bool {
		st := r.status(t)
		return len(st.Workers) == 1 && st.Workers[0].State == "DEGRADED" && strings.Contains(st.Workers[0].Reason, words)
	}, func() any { return r.status(t) })
}

// TestMountNoBucket takes the bucket away from a mount with write-back and gives
// it back: nothing that was promised or listed is lost.
func TestMountNoBucket(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir, _ := r.mount(t, "--write-back")
	write(t, filepath.Join(dir, "old"), "old")
	r.home.MustRun(t, "mount", "flush", dir)
	must(t, os.Rename(r.object(""), r.object("")+"-away"))
	write(t, filepath.Join(dir, "new"), "new")
	wantWords(t, r.home.Run(t, "mount", "flush", dir), 1, "", "new", "no such bucket")
	wantWords(t, r.home.Run(t, "refresh", filepath.Join(dir, "old")), 1, "", "no such bucket")
	if _, err := os.ReadFile(filepath.Join(dir, "old")); !errors.Is(err, syscall.EIO) {
		t.Errorf("read of old: %v, want EIO", err)
	}
	must(t, os.Rename(r.object("")+"-away", r.object("")))
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("new"), "new")
	if got := read(t, filepath.Join(dir, "old")); got != "old" {
		t.Errorf("old holds %q", got)
	}
}

// TestMountNameTaken writes a file where the store cannot hold one: flush says so
// when all else is there, and all is well when the file has another name.
func TestMountNameTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir, _ := r.mount(t, "--write-back")
	_, err := r.store(t).Put(t.Context(), "taken/by", strings.NewReader("x"), 1, objstore.PutOptions{})
	must(t, err)
	write(t, filepath.Join(dir, "taken"), "content")
	write(t, filepath.Join(dir, "other"), "other")
	wantWords(t, r.home.Run(t, "mount", "flush", dir), 1, "", "upload taken")
	wantFile(t, r.object("other"), "other")
	must(t, os.Rename(filepath.Join(dir, "taken"), filepath.Join(dir, "free")))
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("free"), "content")
}
