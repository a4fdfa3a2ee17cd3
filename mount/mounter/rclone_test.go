//go:build linux

package mounter_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/mounter"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

const patience = time.Minute

// A rig is a bucket and a mount of it by rclone.
type rig struct {
	*testing.T
	store objstore.Store
	cfg   mounter.Config
	pid   string // the file where each rclone that is started says who it is
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("%v\nhint: this test mounts", err)
	}
	server, program := servers.Versitygw(t), servers.Rclone(t)
	bucket := server.NewBucket(t)
	store, err := s3.New(t.Context(), s3.Config{Bucket: bucket, Prefix: "pre fix", Endpoint: server.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	at, err := objstore.ParseLocation("s3://" + bucket + "/pre fix?endpoint=" + server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, store: store, pid: filepath.Join(t.TempDir(), "pid")}
	r.cfg = mounter.Config{Kind: mounter.Rclone, Location: at, Dir: filepath.Join(t.TempDir(), "a mount"), State: t.TempDir(),
		Program: r.script("echo $$ >> " + r.pid + "\nexec " + program + ` "$@"`), Env: server.Environ()}
	return r
}

// script makes a program of a shell's lines.
func (r *rig) script(lines string) string {
	path := filepath.Join(r.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755); err != nil {
		r.Fatal(err)
	}
	return path
}

// mount runs a mount until stop is called, at the latest when the test ends.
func (r *rig) mount() (m *mounter.Mount, stop func()) {
	r.Helper()
	m, err := mounter.New(r.cfg)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.Errorf("run: %v", err)
		}
	}
	r.Cleanup(stop)
	select {
	case <-m.Ready():
	case err := <-done:
		stopped = true
		r.Fatalf("run: %v", err)
	case <-time.After(patience):
		r.Fatal("it does not mount")
	}
	return m, stop
}

func (r *rig) put(key, content string) {
	r.Helper()
	if _, err := r.store.Put(r.Context(), key, bytes.NewReader([]byte(content)), int64(len(content)), objstore.PutOptions{}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) path(p string) string { return filepath.Join(r.cfg.Dir, filepath.FromSlash(p)) }

// shows reports whether the mount shows a file with content, and no file for "".
func (r *rig) shows(p, content string) bool {
	b, err := os.ReadFile(r.path(p))
	return err == nil && content != "" && string(b) == content || content == "" && errors.Is(err, fs.ErrNotExist)
}

func (r *rig) wantShown(p, content string) {
	r.Helper()
	if !r.shows(p, content) {
		b, err := os.ReadFile(r.path(p))
		r.Errorf("%s: %q, %v, want %q", p, b, err, content)
	}
}

// refreshed wants the mount to be stale before a refresh and right after it.
func (r *rig) refreshed(m *mounter.Mount, p, content string, paths ...manifest.Path) {
	r.Helper()
	if r.shows(p, content) {
		r.Errorf("%s is new without a refresh: this test shows nothing", p)
	}
	if err := m.Refresh(r.Context(), append(paths, manifest.Path(p))); err != nil {
		r.Error(err)
	}
	r.wantShown(p, content)
}

func TestRclone(t *testing.T) {
	r := newRig(t)
	r.put("dir/file", "one")
	r.put("dir/gone", "x")
	r.put("other/file", "x")
	m, stop := r.mount()
	r.wantShown("dir/file", "one")
	r.wantShown("dir/new", "")
	r.wantShown("a/b/c/new", "")

	r.put("dir/file", "two, and longer")
	r.refreshed(m, "dir/file", "two, and longer")
	r.put("dir/new", "new")
	r.refreshed(m, "dir/new", "new")
	r.put("a/b/c/new", "new, in new directories")
	r.refreshed(m, "a/b/c/new", "new, in new directories")
	r.put("a/b/c/new", "and again, in known ones")
	r.refreshed(m, "a/b/c/new", "and again, in known ones")
	r.put("with space + % & =/ä ?", "odd")
	r.refreshed(m, "with space + % & =/ä ?", "odd")
	r.delete("dir/gone")
	if _, err := os.Lstat(r.path("dir/gone")); err != nil {
		t.Errorf("gone without a refresh: %v", err)
	}
	if err := m.Refresh(t.Context(), []manifest.Path{"dir/gone"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(r.path("dir/gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there after a refresh: %v", err)
	}
	r.changesKind(m)
	r.comesBack(m)

	stop()
	if err := m.Refresh(t.Context(), []manifest.Path{"dir/file"}); !errors.Is(err, mounter.ErrNotMounted) {
		t.Errorf("refresh after the end: %v", err)
	}
	if entries, err := os.ReadDir(r.cfg.Dir); err != nil || len(entries) > 0 {
		t.Errorf("the mount point is not empty: %v, %v", entries, err)
	}
	if err := syscall.Kill(r.last(), 0); err == nil {
		t.Error("rclone still runs")
	}
}

// comesBack empties a directory, lets rclone see that it is gone, and fills it.
func (r *rig) comesBack(m *mounter.Mount) {
	r.Helper()
	r.put("back/a", "x")
	r.refreshed(m, "back/a", "x")
	r.delete("back/a")
	if err := m.Refresh(r.Context(), []manifest.Path{"back/a", "elsewhere"}); err != nil {
		r.Error(err)
	}
	r.wantShown("back/a", "")
	r.put("back/b", "back again")
	r.refreshed(m, "back/b", "back again")
}

// changesKind turns a file into a directory and back.
func (r *rig) changesKind(m *mounter.Mount) {
	r.Helper()
	r.put("kind", "a file")
	r.refreshed(m, "kind", "a file")
	r.delete("kind")
	r.put("kind/below", "in a directory")
	r.refreshed(m, "kind/below", "in a directory", "kind")
	r.delete("kind/below")
	r.put("kind", "a file again")
	r.refreshed(m, "kind", "a file again", "kind/below")
}

func (r *rig) delete(key string) {
	r.Helper()
	if err := r.store.Delete(r.Context(), key); err != nil {
		r.Fatal(err)
	}
}

// last returns the process of the rclone that was started last.
func (r *rig) last() int {
	r.Helper()
	b, err := os.ReadFile(r.pid)
	if err != nil {
		r.Fatal(err)
	}
	all := strings.Fields(string(b))
	pid, err := strconv.Atoi(all[len(all)-1])
	if err != nil {
		r.Fatal(err)
	}
	return pid
}

// Many paths take few calls, and all are refreshed.
func TestRcloneMany(t *testing.T) {
	r := newRig(t)
	r.put("d/file", "x")
	m, _ := r.mount()
	var paths []manifest.Path
	for i := range 450 {
		p := manifest.Path("d/" + strconv.Itoa(i%90) + "/f" + strconv.Itoa(i))
		r.wantShown(string(p), "")
		r.put(string(p), "content "+strconv.Itoa(i))
		paths = append(paths, p)
	}
	if err := m.Refresh(t.Context(), paths); err != nil {
		t.Fatal(err)
	}
	for i, p := range paths {
		r.wantShown(string(p), "content "+strconv.Itoa(i))
	}
}

// A mounter that is killed is started again, and what is new then is refreshed.
func TestRcloneKilled(t *testing.T) {
	r := newRig(t)
	r.put("file", "one")
	m, _ := r.mount()
	r.wantShown("file", "one")
	first := r.last()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.wait("a new mount", func() bool { return r.last() != first && m.Mounted() })
	r.wantShown("file", "one")
	r.put("file", "two, and longer")
	r.refreshed(m, "file", "two, and longer")
}

func (r *rig) wait(what string, done func() bool) {
	r.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			r.Fatalf("no %s", what)
		}
	}
}

// A mount that is there is used, and left; a dead one is cleared.
func TestRcloneFound(t *testing.T) {
	r := newRig(t)
	r.put("file", "one")
	owner, stopOwner := r.mount()
	guest, stopGuest := r.mount()
	r.wantShown("file", "one")
	r.put("file", "two, and longer")
	r.refreshed(guest, "file", "two, and longer")
	stopGuest()
	if !owner.Mounted() {
		t.Error("the guest took the mount with it")
	}
	r.wantShown("file", "two, and longer")
	stopOwner()

	cmd := exec.Command(r.cfg.Program, "mount", ":local:"+t.TempDir(), r.cfg.Dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.wait("mount", func() bool { return mounted(r.cfg.Dir) })
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.ReadDir(r.cfg.Dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("the dead mount point answers %v", err)
	}
	r.mount()
	r.wantShown("file", "two, and longer")
}

func mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(b), strings.ReplaceAll(dir, " ", `\040`)+" ")
}

// A mount in use cannot be unmounted: Run says so, and the next one clears what is
// left when the user is gone.
func TestRcloneBusy(t *testing.T) {
	r := newRig(t)
	r.put("file", "one")
	m, err := mounter.New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	f, err := os.Open(r.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, syscall.EBUSY) {
		t.Errorf("run: %v", err)
	}
	f.Close()
	r.mount()
	r.wantShown("file", "one")
}

// What keeps a mounter from mounting is said, with its own words.
func TestRcloneRefused(t *testing.T) {
	r := newRig(t)
	r.cfg.Args = []string{"--no-such-flag"}
	m, err := mounter.New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("got %v", err)
	}
	r.cfg.Program = "/no/such/program"
	if m, err = mounter.New(r.cfg); err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// No command line has a secret, and the socket is nobody else's.
func TestRcloneSecrets(t *testing.T) {
	r := newRig(t)
	r.mount()
	line, err := os.ReadFile("/proc/" + strconv.Itoa(r.last()) + "/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.cfg.Env {
		name, value, _ := strings.Cut(kv, "=")
		if (name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY") && bytes.Contains(line, []byte(value)) {
			t.Errorf("the command line has %s", name)
		}
	}
}
