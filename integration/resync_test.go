package integration_test

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
)

// TestResync syncs a tree again that did not change, was touched, and changed
// behind an old time.
func TestResync(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	copyTree(t, filepath.Join(strings.TrimSpace(string(out)), "src", "cmd", "compile"), r.source)
	sync := func() map[string]any { return r.home.MustRun(t, "sync", r.source, "--to", r.url) }

	first := sync()
	if n := len(proxy.Take()); float64(n) < first["files"].(float64) {
		t.Fatalf("only %d requests were counted", n)
	}
	waitOld(t, r.source)
	sync() // files that were too fresh to be known by their time are read once more
	proxy.Take()

	began := time.Now()
	line := sync()
	took := time.Since(began)
	requests := proxy.Take()
	t.Logf("unchanged: %v files, %d requests in %s:\n%s", line["files"], len(requests), took, strings.Join(requests, "\n"))
	wantOnlyLog(t, r, requests)
	wantNothingDone(t, first, line)

	now := time.Now()
	eachFile(t, r.source, func(path string, _ fs.FileInfo) { must(t, os.Chtimes(path, now, now)) })
	line = sync()
	wantOnlyLog(t, r, proxy.Take())
	wantNothingDone(t, first, line)

	path := filepath.Join(r.source, "main.go")
	fi, err := os.Stat(path)
	must(t, err)
	content := []byte(read(t, path))
	content[0] ^= 1
	must(t, os.WriteFile(path, content, 0o644))
	must(t, os.Chtimes(path, fi.ModTime(), fi.ModTime()))
	line = sync()
	if line["uploaded_files"] != 1.0 || read(t, r.object("main.go")) != string(content) {
		t.Errorf("an edit of the same size under the old time was not uploaded: %v", line)
	}
}

// waitOld waits until the newest change in a tree is no longer so fresh that a
// second one could hide behind the same time.
func waitOld(t *testing.T, dir string) {
	t.Helper()
	newest := time.Time{}
	eachFile(t, dir, func(_ string, fi fs.FileInfo) {
		if fi.ModTime().After(newest) {
			newest = fi.ModTime()
		}
	})
	waitFor(t, "old files", func() bool { return time.Since(newest) > 2*time.Second })
}

func eachFile(t *testing.T, dir string, do func(path string, fi fs.FileInfo)) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			do(path, fi)
		}
		return err
	}))
}

// wantOnlyLog wants requests to read the log and nothing else.
func wantOnlyLog(t *testing.T, r *rig, requests []string) {
	t.Helper()
	const log = ".skyagent/sources/main/"
	for _, req := range requests {
		plain, err := url.QueryUnescape(req)
		must(t, err)
		if !strings.HasPrefix(plain, "GET /"+r.bucket+"/"+log) &&
			!(strings.HasPrefix(plain, "GET /"+r.bucket+"?") && strings.Contains(plain, "prefix="+log)) {
			t.Errorf("request that does not read the log: %s", plain)
		}
	}
}

func wantNothingDone(t *testing.T, first, line map[string]any) {
	t.Helper()
	if line["uploaded_files"] != 0.0 || line["copied_files"] != 0.0 || line["deleted"] != 0.0 || line["generation"] != first["generation"] {
		t.Errorf("something was done: %v after %v", line, first)
	}
}

// TestTouch touches every file under a watch: no upload, no commit, no event.
func TestTouch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range []string{"a", "b/c", "b/d/e"} {
		write(t, filepath.Join(r.source, name), "content of "+name)
	}
	watch := r.watch(t)
	events := r.home.Start(t, "events", r.url)
	explain(t, events)
	// Events are seen once one is.
	tick := 0
	waitFor(t, "event", func() bool {
		tick++
		write(t, filepath.Join(r.source, "tick"), strconv.Itoa(tick))
		return len(events.Lines()) > 0
	})
	waitFor(t, "the last commit", func() bool { return r.committed(t, "tick", strconv.Itoa(tick)) })
	newest := float64(len(r.commits(t)))
	watch.Wait("word of the last commit", func(v map[string]any) bool { return v["generation"] == newest && v["ready"] == nil })
	before := len(watch.Lines())
	now := time.Now().Add(-time.Hour)
	eachFile(t, r.source, func(path string, _ fs.FileInfo) { must(t, os.Chtimes(path, now, now)) })
	// What comes after a change that counts is the proof that the rest did not.
	write(t, filepath.Join(r.source, "last"), strings.Repeat("x", 1000))
	watch.Wait("a commit", func(v map[string]any) bool { return v["changes"] != nil && v["uploaded_bytes"] == 1000.0 })
	if got := watch.Lines()[before:]; len(got) != 1 || got[0]["changes"] != 1.0 {
		t.Errorf("commits after a touch and one change: %v", got)
	}
	c := r.checkBucket(t)
	if last := c[len(c)-1]; len(last.Changes) != 1 || last.Changes[0].Path != "last" {
		t.Errorf("committed: %+v", last)
	}
	stop(t, events, watch)
	for _, e := range events.Lines() {
		if changes, _ := e["changes"].([]any); len(changes) > 1 {
			t.Errorf("event: %v", e)
		}
	}
}
