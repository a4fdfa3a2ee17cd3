package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// A worker is a virtual machine that runs the agent on a task.
type worker struct {
	home *program.Home
	dir  string // where its mount paths are
	task string // the task file
}

// newWorker returns a worker with a task, in which WORKER is its directory.
func (r *rig) newWorker(t *testing.T, task string) *worker {
	w := &worker{home: program.NewHome(t), dir: t.TempDir()}
	w.home.Env = append(w.home.Env, r.home.Env[1:]...) // all but its place
	w.home.Env = append(w.home.Env, "HOME="+w.dir)
	w.task = filepath.Join(w.home.Dir, "task.yaml")
	write(t, w.task, strings.ReplaceAll(task, "WORKER", w.dir))
	return w
}

// agent starts the agent and waits until every file mount was tried.
func (w *worker) agent(t *testing.T, args ...string) *program.Process {
	t.Helper()
	if testing.Short() {
		t.Skip("short runs look for races, and the program that mounts is built without the detector")
	}
	p := w.home.Start(t, append([]string{"agent", "-f", w.task, "--metrics", "127.0.0.1:0"}, args...)...)
	explain(t, p)
	// Who fails must not leave a mount behind that keeps its directory.
	t.Cleanup(func() { p.Stop() })
	p.Wait("end of the first round", func(v map[string]any) bool { _, ok := v["mounts"]; return ok })
	return p
}

func (w *worker) path(name string) string { return filepath.Join(w.dir, name) }

// wantFiles waits until every file has its content.
func (w *worker) wantFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		waitFor(t, name+" with "+content, func() bool { return read(t, w.path(name)) == content },
			func() any { return read(t, w.path(name)) })
	}
}

// TestAgentTask has every kind of file mount of a task in one process: all come
// into place, follow what changes, stand in one status, are back after a crash,
// and are gone when the agent leaves.
func TestAgentTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{JetStream: true})
	r.home.Env = append(r.home.Env, "NATS_URL="+nats.URL)
	store := r.store(t)
	stranger(t, store, "models/one.bin", "one")
	stranger(t, store, "models/deep/two.bin", "two")
	named := r.server.NewBucket(t)
	write(t, filepath.Join(r.source, "data"), "data")
	watch := r.live(t, []string{"watch", r.source, "--to", "s3://" + named})
	w := r.newWorker(t, fmt.Sprintf(`
name: demo
workdir: .
file_mounts:
  WORKER/plain: ~/somewhere
  WORKER/copy: {name: %[1]s, source: ~/somewhere, store: s3, mode: COPY}
  WORKER/mount: {name: %[1]s, store: s3}
  WORKER/cached: {name: %[1]s, store: s3, mode: MOUNT_CACHED}
  ~/home: {name: %[1]s, store: s3, mode: COPY}
  WORKER/bucket: %[2]s
  WORKER/prefix: %[2]s/models
  WORKER/external: {source: %[2]s}
  WORKER/new/dir/model.bin: %[2]s/models/one.bin
run: ls
`, named, r.url))
	p := w.agent(t, "--poll", "1s")
	p.Ready()
	in := map[string]string{
		"copy/data": "data", "mount/data": "data", "cached/data": "data", "home/data": "data",
		"bucket/models/one.bin": "one", "bucket/models/deep/two.bin": "two", "prefix/one.bin": "one", "prefix/deep/two.bin": "two",
		"external/models/one.bin": "one", "new/dir/model.bin": "one",
	}
	w.wantFiles(t, in)
	if _, err := os.Lstat(w.path("plain")); err == nil {
		t.Error("a plain file mount was touched")
	}

	write(t, filepath.Join(r.source, "data"), "new data")
	for _, dir := range []string{"copy", "mount", "cached", "home"} {
		in[dir+"/data"] = "new data"
	}
	write(t, w.path("cached/made"), "made by write-back")
	for _, dir := range []string{"copy", "mount", "home"} {
		in[dir+"/made"] = "made by write-back"
	}
	w.wantFiles(t, in)
	write(t, w.path("external/models/one.bin"), "another one") // heard of by the other copies
	for _, name := range []string{"bucket/models/one.bin", "prefix/one.bin", "new/dir/model.bin"} {
		in[name] = "another one"
	}
	in["external/models/one.bin"] = "another one"
	w.wantFiles(t, in)

	one := statusOf(t, w.home, "s3://"+named)
	if len(one.Workers) != 4 {
		t.Errorf("status of %s has %d workers, want 4: %+v", named, len(one.Workers), one)
	}

	p.Kill()
	write(t, filepath.Join(r.source, "data"), "written meanwhile")
	for _, dir := range []string{"copy", "mount", "cached", "home"} {
		in[dir+"/data"] = "written meanwhile"
	}
	p = w.agent(t)
	p.Ready()
	w.wantFiles(t, in)
	stop(t, p, watch)
	for _, dir := range []string{"mount", "cached", "external"} {
		if entries, err := os.ReadDir(w.path(dir)); err != nil || len(entries) > 0 {
			t.Errorf("%s is still mounted: %v %v", dir, entries, err)
		}
	}
}

// TestD30MissingPrefixOnWorker wants a prefix, an object or a bucket that is not there to
// be an error, which the other file mounts do not feel, and to be brought once
// it is there.
func TestD30MissingPrefixOnWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	store := r.store(t)
	stranger(t, store, "there", "there")
	w := r.newWorker(t, fmt.Sprintf(`
file_mounts:
  WORKER/missing: %[1]s/missing
  WORKER/absent: {source: "s3://no-such-bucket-%[2]s", mode: COPY}
  WORKER/scratch: {name: no-such-storage-%[2]s, store: s3}
  WORKER/there: %[1]s
`, r.url, r.bucket[len(r.bucket)-8:]))
	p := w.agent(t)
	w.wantFiles(t, map[string]string{"there/there": "there"})
	round := p.Wait("round", func(v map[string]any) bool { _, ok := v["mounts"]; return ok })
	if round["failed"] != 3.0 || round["ready"] != false {
		t.Errorf("first round: %v", round)
	}
	for path, words := range map[string]string{
		"missing": "there is neither an object nor a prefix of that name",
		"absent":  "no such bucket", "scratch": "no such bucket",
	} {
		line := p.Wait(path, func(v map[string]any) bool { return v["path"] == w.path(path) && v["error"] != nil })
		if !strings.Contains(line["error"].(string), words) {
			t.Errorf("%s: %v", path, line)
		}
	}
	if _, err := os.Lstat(w.path("missing")); err == nil {
		t.Error("there is a directory for a prefix that is not there")
	}
	stranger(t, store, "missing/file", "no longer")
	w.wantFiles(t, map[string]string{"missing/file": "no longer"})
	stop(t, p)
}

// TestAgentPublic wants a public bucket to be copied and mounted without
// credentials, and writes to it to fail.
func TestAgentPublic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger(t, r.store(t), "dir/file", "public")
	r.server.MakePublic(t, r.bucket)
	w := r.newWorker(t, fmt.Sprintf(`
file_mounts:
  WORKER/copy: %[1]s
  WORKER/mount: {source: %[1]s, mode: MOUNT}
  WORKER/file: %[1]s/dir/file
`, r.url))
	w.home.Env = append(w.home.Env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
	p := w.agent(t, "--anonymous")
	w.wantFiles(t, map[string]string{"copy/dir/file": "public", "mount/dir/file": "public", "file": "public"})
	if err := os.WriteFile(w.path("mount/dir/other"), nil, 0o644); !strings.Contains(fmt.Sprint(err), "read-only file system") {
		t.Errorf("a write: %v", err)
	}
	stop(t, p)
}

// TestAgentGCS has a bucket of Google's as a copy, a mount, a part and an object.
func TestAgentGCS(t *testing.T) {
	t.Parallel()
	server := servers.GCS(t)
	r := &rig{home: program.NewHome(t)}
	r.home.Env = append(r.home.Env, server.Environ()...)
	bucket := server.NewBucket(t)
	source := t.TempDir()
	write(t, filepath.Join(source, "sub/file"), "content")
	r.home.MustRun(t, "sync", source, "--to", "gs://"+bucket)
	w := r.newWorker(t, fmt.Sprintf(`
file_mounts:
  WORKER/copy: gs://%[1]s
  WORKER/part: gs://%[1]s/sub
  WORKER/one/file: gs://%[1]s/sub/file
  WORKER/mount: {source: "gs://%[1]s", mode: MOUNT}
  WORKER/missing: gs://%[1]s/missing
`, bucket))
	p := w.agent(t, "--poll", "200ms")
	w.wantFiles(t, map[string]string{"copy/sub/file": "content", "part/file": "content", "one/file": "content", "mount/sub/file": "content"})
	p.Wait("the missing prefix", func(v map[string]any) bool { return v["path"] == w.path("missing") && v["error"] != nil })
	write(t, w.path("mount/sub/file"), "other content")
	w.wantFiles(t, map[string]string{"copy/sub/file": "other content", "one/file": "other content"})
	stop(t, p)
}

// TestAgentMounter has another program mount, and wants what a watch saves to be
// seen.
func TestAgentMounter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "file"), "one")
	watch := r.watch(t, "--nats", nats.URL)
	w := r.newWorker(t, "file_mounts:\n  WORKER/mount: {source: "+r.url+", mode: MOUNT}\n")
	w.home.Env = append(w.home.Env, "PATH="+filepath.Dir(servers.Rclone(t))+":"+os.Getenv("PATH"))
	p := w.agent(t, "--mounter", "rclone", "--nats", nats.URL)
	w.wantFiles(t, map[string]string{"mount/file": "one"})
	write(t, filepath.Join(r.source, "file"), "two, and longer")
	waitShown(t, w.path("mount/file"), "two, and longer")
	stop(t, p, watch)
}

// TestAgentNested has a mount within another one, which the task names later.
func TestAgentNested(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger(t, r.store(t), "file", "inner")
	outer := r.server.NewBucket(t)
	w := r.newWorker(t, fmt.Sprintf("file_mounts:\n  WORKER/mount/inner: {source: %s}\n  WORKER/mount: {source: s3://%s}\n", r.url, outer))
	p := w.agent(t)
	p.Ready()
	w.wantFiles(t, map[string]string{"mount/inner/file": "inner"})
	write(t, w.path("mount/file"), "outer")
	if got := read(t, filepath.Join(r.server.Dir, outer, "file")); got != "outer" {
		t.Errorf("the outer bucket has %q", got)
	}
	stop(t, p)
	if said := p.Stderr(); strings.Contains(said, "busy") {
		t.Errorf("the outer one was unmounted first:\n%s", said)
	}
}

// TestScratch is the document's use case 3: a path that can be written, and all
// that is written is in the bucket.
func TestScratch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	name := "my-output-bucket"
	w := r.newWorker(t, "file_mounts:\n  WORKER/outputs: {name: "+name+", store: s3, mode: MOUNT}\n")
	p := w.agent(t, "--create")
	w.wantFiles(t, map[string]string{"outputs/x": ""})
	write(t, w.path("outputs/checkpoints/1"), "weights")
	if got := read(t, filepath.Join(r.server.Dir, name, "checkpoints/1")); got != "weights" {
		t.Errorf("the bucket has %q after the close", got)
	}
	if got := read(t, filepath.Join(r.server.Dir, name, ".skyagent/made")); !strings.Contains(got, name) {
		t.Errorf("the bucket is not marked as ours: %q", got)
	}
	info := w.home.MustRun(t, "storage", "info", name)
	if info["status"] != "READY" || info["url"] != "s3://"+name {
		t.Errorf("recorded as %v", info)
	}
	stop(t, p)
	stop(t, w.agent(t, "--create")) // what is there is not made again
	w.home.MustRun(t, "storage", "delete", name, "-y")
	if there(filepath.Join(r.server.Dir, name)) {
		t.Error("the worker cannot delete what it made")
	}
}

// TestSharedFileSystem is the document's use case 4: several workers write and
// read one storage, and pass a counter to and fro by files.
func TestSharedFileSystem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{JetStream: true})
	r.home.Env = append(r.home.Env, "NATS_URL="+nats.URL)
	task := "file_mounts:\n  WORKER/shared:\n    name: my-sky-sharedfs\n    store: s3\n    mode: MOUNT\n"
	a, b := r.newWorker(t, task), r.newWorker(t, task)
	first := a.agent(t, "--create")
	second := b.agent(t)
	took := posix.PingPong(t, a.path("shared"), b.path("shared"), 20)
	t.Logf("20 rounds of ping and pong, the last in %v", took[len(took)-1])
	stop(t, first, second)
}

// TestAgentTellsSystemd wants the service to count as started once every file
// mount was tried, and the health page to name the one that failed.
func TestAgentTellsSystemd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger(t, r.store(t), "file", "content")
	w := r.newWorker(t, fmt.Sprintf("file_mounts:\n  WORKER/copy: %[1]s\n  WORKER/missing: %[1]s/missing\n", r.url))
	socket := filepath.Join(w.home.Dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	must(t, l.SetReadDeadline(time.Now().Add(program.Patience)))
	w.home.Env = append(w.home.Env, "NOTIFY_SOCKET="+socket)
	p := w.agent(t)
	told := func() string {
		b := make([]byte, 1024)
		n, err := l.Read(b)
		must(t, err)
		return string(b[:n])
	}
	if got, want := told(), "READY=1\nSTATUS=1 of 2 file mounts in place at the start"; got != want {
		t.Errorf("systemd is told %q, want %q", got, want)
	}
	round := p.Wait("round", func(v map[string]any) bool { _, ok := v["mounts"]; return ok })
	health := func() (int, string) {
		resp, err := http.Get(strings.TrimSuffix(round["metrics"].(string), "metrics") + "readyz")
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(b)
	}
	if code, page := health(); code != http.StatusServiceUnavailable || !strings.Contains(page, w.path("missing")+": ") {
		t.Errorf("health is %d %q", code, page)
	}
	var st status
	waitFor(t, "status", func() bool {
		st = statusOf(t, w.home, r.url+"/missing")
		return len(st.Workers) == 1 && st.Workers[0].State == "DEGRADED" && strings.Contains(st.Workers[0].Reason, "neither an object nor a prefix")
	}, func() any { return st })
	stranger(t, r.store(t), "missing/file", "no longer")
	waitFor(t, "health", func() bool { code, _ := health(); return code == http.StatusOK })
	stop(t, p)
	if got := told(); got != "STOPPING=1" {
		t.Errorf("systemd is told %q at the end", got)
	}
}

// TestAgentUnmounted wants a mount that somebody took away to come back.
func TestAgentUnmounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger(t, r.store(t), "file", "content")
	w := r.newWorker(t, "file_mounts:\n  WORKER/mount: {source: "+r.url+"}\n")
	p := w.agent(t)
	w.wantFiles(t, map[string]string{"mount/file": "content"})
	must(t, syscall.Unmount(w.path("mount"), 0))
	w.wantFiles(t, map[string]string{"mount/file": "content"})
	stop(t, p)
}
