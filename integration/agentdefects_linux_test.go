package integration_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

// The tests here are named after defects of SkyPilot's, as numbered in
// docs/skypilot.md, and have an agent do on a worker what SkyPilot does there.

// copied starts a watch of the rig's source, and a worker that has it as a COPY
// at "copy".
func (r *rig) copied(t *testing.T) *worker {
	t.Helper()
	nats := servers.NATS(t, servers.NATSOptions{})
	watch := r.watch(t, "--nats", nats.URL)
	w := r.newWorker(t, "file_mounts:\n  WORKER/copy: "+r.url+"\n")
	p := w.agent(t, "--nats", nats.URL)
	t.Cleanup(func() { stop(t, p, watch) })
	return w
}

// TestD04FileToDirectory has a file become a directory and one a file.
func TestD04FileToDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "file")
	write(t, filepath.Join(r.source, "b/c"), "below")
	w := r.copied(t)
	w.wantFiles(t, map[string]string{"copy/a": "file", "copy/b/c": "below"})
	must(t, os.Remove(filepath.Join(r.source, "a")))
	must(t, os.RemoveAll(filepath.Join(r.source, "b")))
	write(t, filepath.Join(r.source, "a/x"), "below now")
	write(t, filepath.Join(r.source, "b"), "file now")
	waitFor(t, "the other kinds", func() bool {
		return contains(w.path("copy/a"), "x", "below now") && contains(w.path("copy"), "b", "file now")
	})
}

// TestD05SameSize has a file change and keep its size and time, in a storage of
// ours and in a bucket that nobody of ours writes.
func TestD05SameSize(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "file"), "v1")
	w := r.copied(t)
	w.wantFiles(t, map[string]string{"copy/file": "v1"})
	fi, err := os.Stat(filepath.Join(r.source, "file"))
	must(t, err)
	write(t, filepath.Join(r.source, "file"), "v2")
	must(t, os.Chtimes(filepath.Join(r.source, "file"), fi.ModTime(), fi.ModTime()))
	w.wantFiles(t, map[string]string{"copy/file": "v2"})

	other := newRig(t)
	stranger(t, other.store(t), "file", "v1")
	w = other.newWorker(t, fmt.Sprintf("file_mounts:\n  WORKER/copy: %[1]s\n  WORKER/single: %[1]s/file\n", other.url))
	p := w.agent(t, "--poll", "200ms", "--exec", "cat >> "+w.path("changed"))
	w.wantFiles(t, map[string]string{"copy/file": "v1", "single": "v1"})
	waitFor(t, "the command for both", func() bool {
		changed := read(t, w.path("changed"))
		return strings.Contains(changed, "file\n") && strings.Contains(changed, "single\n")
	})
	stranger(t, other.store(t), "file", "v2")
	w.wantFiles(t, map[string]string{"copy/file": "v2", "single": "v2"})
	stop(t, p)
}

// TestD06RemoteDelete has a file deleted, which takes the worker's along, and
// nothing that the worker has of its own.
func TestD06RemoteDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "gone"), "gone")
	write(t, filepath.Join(r.source, "kept"), "kept")
	w := r.copied(t)
	w.wantFiles(t, map[string]string{"copy/gone": "gone", "copy/kept": "kept"})
	write(t, w.path("copy/own"), "the worker's")
	must(t, os.Remove(filepath.Join(r.source, "gone")))
	w.wantFiles(t, map[string]string{"copy/gone": "", "copy/kept": "kept", "copy/own": "the worker's"})
	if _, err := os.Lstat(r.object("own")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a write into a copy is in the bucket: %v", err)
	}
}

// TestD10Modes has a program stay one, and an empty directory be there.
func TestD10Modes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "run.sh"), "#!/bin/sh")
	must(t, os.Chmod(filepath.Join(r.source, "run.sh"), 0o755))
	must(t, os.Mkdir(filepath.Join(r.source, "empty"), 0o755))
	w := r.copied(t)
	w.wantFiles(t, map[string]string{"copy/run.sh": "#!/bin/sh"})
	if fi, err := os.Stat(w.path("copy/run.sh")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v, %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(w.path("copy/empty")); err != nil || !fi.IsDir() {
		t.Errorf("empty: %v", err)
	}
}

// TestD19MountedOnce has an agent find a mount that a killed one left, and a
// directory that is none but lies on the same disk as all others.
func TestD19MountedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger(t, r.store(t), "file", "content")
	w := r.newWorker(t, "file_mounts:\n  WORKER/mount: {source: "+r.url+"}\n")
	mounts := func() int {
		return strings.Count(read(t, "/proc/self/mountinfo"), " "+w.path("mount")+" ")
	}
	must(t, os.Mkdir(w.path("mount"), 0o755))
	p := w.agent(t)
	w.wantFiles(t, map[string]string{"mount/file": "content"})
	p.Kill()
	p = w.agent(t)
	w.wantFiles(t, map[string]string{"mount/file": "content"})
	if n := mounts(); n != 1 {
		t.Errorf("it is mounted %d times", n)
	}
	if strings.Contains(p.Stderr(), "warning") {
		t.Errorf("it took more than one try:\n%s", p.Stderr())
	}
	stop(t, p)
	if n := mounts(); n != 0 {
		t.Errorf("it is mounted %d times after the end", n)
	}
}

// TestD23SubPath has parts of a bucket mounted in every mode: nothing else of
// the bucket is seen, or written.
func TestD23SubPath(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	store := r.store(t)
	stranger(t, store, "outside", "not for the worker")
	stranger(t, store, "sub/inside", "inside")
	w := r.newWorker(t, fmt.Sprintf(`
file_mounts:
  WORKER/cached: {name: %[1]s, store: s3, mode: MOUNT_CACHED, _bucket_sub_path: sub}
  WORKER/mount: {name: %[1]s, store: s3, mode: MOUNT, _bucket_sub_path: sub}
  WORKER/uri: {source: %[2]s/sub, mode: MOUNT}
  WORKER/copy: {source: %[2]s/sub, mode: COPY}
`, r.bucket, r.url))
	p := w.agent(t)
	for _, dir := range []string{"cached", "mount", "uri", "copy"} {
		w.wantFiles(t, map[string]string{dir + "/inside": "inside"})
		if _, err := os.Lstat(w.path(dir + "/outside")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s shows what is outside: %v", dir, err)
		}
	}
	write(t, w.path("cached/made"), "made")
	waitFor(t, "object", func() bool { return read(t, r.object("sub/made")) == "made" })
	stop(t, p)
}

// TestD29FlushEnds has a flush give up where an upload can never succeed, and say
// how much is left.
func TestD29FlushEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker(t, "file_mounts:\n  WORKER/cached: {name: "+r.bucket+", store: s3, mode: MOUNT_CACHED}\n")
	p := w.agent(t)
	r.server.Stop()
	write(t, w.path("cached/file"), "written")
	flush := w.home.Run(t, "mount", "flush", w.path("cached"), "--timeout", "500ms")
	if flush.Code == 0 || !strings.Contains(flush.Stderr, "not in the bucket after 500ms") {
		t.Errorf("flush: exit %d\n%s", flush.Code, flush.Stderr)
	}
	r.server.Start(t)
	if flush := w.home.Run(t, "mount", "flush", w.path("cached")); flush.Code != 0 || read(t, r.object("file")) != "written" {
		t.Errorf("flush: exit %d\n%s", flush.Code, flush.Stderr)
	}
	stop(t, p)
}
