//go:build unix

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What SkyPilot gets wrong in an upload, each with the outcome that is right.
// The numbers are those of docs/skypilot.md.

// dataset is a shop with a task of one storage, which was synced once.
func dataset(t *testing.T, files map[string]string) (s *shop, name string) {
	t.Helper()
	s = newShop(t)
	for path, content := range files {
		write(t, filepath.Join(s.source, filepath.FromSlash(path)), content)
	}
	name = s.name("data")
	s.mounts(t, "/data: {name: "+name+", source: "+s.source+", store: s3, mode: COPY}")
	s.sync(t, 0)
	return s, name
}

// sync syncs the task, and returns the last line.
func (s *shop) sync(t *testing.T, code int) map[string]any {
	t.Helper()
	r := s.home.Run(t, "sync", "-f", s.task, "--json")
	if r.Code != code {
		t.Fatalf("exit %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Last(t)
}

// worker copies the storage, and returns the directory.
func (s *shop) worker(t *testing.T, name string) string {
	t.Helper()
	s.home.MustRun(t, "copy", name, s.replica, "--once")
	return s.replica
}

func TestD01SameSizeOldTime(t *testing.T) {
	s, name := dataset(t, map[string]string{"a": "one"})
	path := filepath.Join(s.source, "a")
	fi, err := os.Stat(path)
	must(t, err)
	write(t, path, "two")
	must(t, os.Chtimes(path, time.Time{}, fi.ModTime().Add(-time.Hour)))
	s.sync(t, 0)
	if !holds(s.in(name, "a"), "two") {
		t.Error("an edit of the same size with an older time was not uploaded")
	}
}

func TestD02Touch(t *testing.T) {
	s, _ := dataset(t, map[string]string{"a": "one"})
	now := time.Now().Add(time.Hour)
	must(t, os.Chtimes(filepath.Join(s.source, "a"), now, now))
	if last := s.sync(t, 0); last["uploaded_files"] != 0.0 || last["generation"] != 1.0 {
		t.Errorf("a touch without a change: %v", last)
	}
}

func TestD03Deleted(t *testing.T) {
	s, name := dataset(t, map[string]string{"a": "one", "b": "two"})
	must(t, os.Remove(filepath.Join(s.source, "a")))
	s.sync(t, 0)
	if there(s.in(name, "a")) || there(filepath.Join(s.worker(t, name), "a")) {
		t.Error("a deleted file stays")
	}
}

func TestD04FileBecomesDirectory(t *testing.T) {
	s, name := dataset(t, map[string]string{"a": "one"})
	s.worker(t, name)
	must(t, os.Remove(filepath.Join(s.source, "a")))
	write(t, filepath.Join(s.source, "a", "x"), "two")
	s.sync(t, 0)
	if dir := s.worker(t, name); !holds(filepath.Join(dir, "a", "x"), "two") || !holds(s.in(name, "a/x"), "two") {
		t.Error("a file that became a directory did not arrive as one")
	}
}

func TestD09LinkedSource(t *testing.T) {
	s, _ := dataset(t, map[string]string{"a": "one"})
	link, name := filepath.Join(t.TempDir(), "link"), s.name("linked")
	must(t, os.Symlink(s.source, link))
	must(t, os.Symlink("a", filepath.Join(s.source, "inner")))
	s.mounts(t, "/data: {name: "+name+", source: "+link+", store: s3}")
	s.sync(t, 0)
	if !holds(s.in(name, "a"), "one") || there(s.in(name, "inner")) {
		t.Errorf("in the bucket: %v", listed(s.in(name, "")))
	}
}

func TestD08ListedSymlink(t *testing.T) {
	s, _ := dataset(t, map[string]string{"a": "one", "b": "two"})
	name := s.name("listed")
	must(t, os.Symlink("a", filepath.Join(s.source, "link")))
	s.mounts(t, fmt.Sprintf("/data: {name: %s, source: [%s/link, %s/b], store: s3}", name, s.source, s.source))
	r := s.home.Run(t, "sync", "-f", s.task)
	if r.Code != 0 || !strings.Contains(r.Stderr, "link is a symbolic link, and links are not uploaded: it is left out") {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
	if there(s.in(name, "link")) || !holds(s.in(name, "b"), "two") {
		t.Errorf("in the bucket: %v", listed(s.in(name, "")))
	}
}

func TestD10ModesAndEmptyDirectories(t *testing.T) {
	s, name := dataset(t, map[string]string{"run.sh": "#!/bin/sh\n"})
	must(t, os.Chmod(filepath.Join(s.source, "run.sh"), 0o755))
	must(t, os.Mkdir(filepath.Join(s.source, "empty"), 0o755))
	s.sync(t, 0)
	dir := s.worker(t, name)
	if fi, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v, %v", fi, err)
	}
	if !there(filepath.Join(dir, "empty")) {
		t.Error("the empty directory is lost")
	}
}

func TestD11FIFOInSource(t *testing.T) {
	s, name := dataset(t, map[string]string{"a": "one"})
	must(t, syscall.Mkfifo(filepath.Join(s.source, "fifo"), 0o644))
	write(t, filepath.Join(s.source, "b"), "two")
	s.sync(t, 3)
	if got := s.storages(t)[name]; !holds(s.in(name, "b"), "two") || got != "READY" {
		t.Errorf("state %s; in the bucket: %v", got, listed(s.in(name, "")))
	}
}

func TestD16SameSizeAndTime(t *testing.T) {
	s, name := dataset(t, map[string]string{"a": "one"})
	path := filepath.Join(s.source, "a")
	fi, err := os.Stat(path)
	must(t, err)
	write(t, path, "two")
	must(t, os.Chtimes(path, time.Time{}, fi.ModTime()))
	s.sync(t, 0)
	if !holds(s.in(name, "a"), "two") {
		t.Error("an edit that kept size and time was not uploaded")
	}
}

func TestD18SpaceInListedName(t *testing.T) {
	s, _ := dataset(t, map[string]string{"my dir/a b": "one"})
	name := s.name("spaces")
	s.mounts(t, fmt.Sprintf("/data: {name: %s, source: ['%s/my dir'], store: s3}", name, s.source))
	s.sync(t, 0)
	if !holds(s.in(name, "my dir/a b"), "one") {
		t.Errorf("in the bucket: %v", listed(s.in(name, "")))
	}
}

func TestD26NothingChanged(t *testing.T) {
	files := make(map[string]string)
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint(i)
	}
	s, name := dataset(t, files)
	before := listed(s.in(name, ".skyagent/sources/main/log"))
	if last := s.sync(t, 0); last["uploaded_files"] != 0.0 {
		t.Errorf("a sync without a change: %v", last)
	}
	write(t, filepath.Join(s.source, "d0", "f0"), "new")
	if last := s.sync(t, 0); last["uploaded_files"] != 1.0 {
		t.Errorf("a sync of one change: %v", last)
	}
	if after := listed(s.in(name, ".skyagent/sources/main/log")); len(after) != len(before)+1 {
		t.Errorf("commits before %v, after %v", before, after)
	}
}

// The program's runner fails a test whose output holds a secret; here what is
// kept on disk is looked through, too.
func TestD31Secrets(t *testing.T) {
	s, _ := dataset(t, map[string]string{"a": "one"})
	s.home.MustRun(t, "sync", "-f", s.task, "--nats", "nats://user:hunter2hunter2@127.0.0.1:1")
	must(t, filepath.WalkDir(s.home.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, secret := range []string{s.server.SecretKey, "hunter2hunter2"} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	}))
	if r := s.home.Run(t, "storage", "ls"); !strings.Contains(r.Stdout, "--nats nats://***@127.0.0.1:1") {
		t.Errorf("the command is not told without its secret:\n%s", r.Stdout)
	}
}
