//go:build linux

package posix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Suite makes every call of a table in a directory of its own below dir and
// compares what it answers with what POSIX, Linux and the profile say. It sets
// the process's umask at times, so nothing else may make files meanwhile.
func Suite(t *testing.T, dir string, p Profile) {
	t.Helper()
	for _, group := range []struct {
		name   string
		checks []check
	}{
		{"open", openChecks}, {"data", dataChecks}, {"truncate", truncateChecks}, {"space", spaceChecks}, {"mmap", mapChecks},
		{"dir", dirChecks}, {"readdir", readdirChecks}, {"names", nameChecks}, {"unlink", unlinkChecks},
		{"rename", renameChecks()}, {"link", linkChecks}, {"attr", attrChecks}, {"time", timeChecks},
		{"xattr", xattrChecks}, {"lock", lockChecks},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.checks {
				t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) { c.run(newScene(t, dir, p)) })
			}
		})
	}
}

// A check is one line of the table.
type check struct {
	name string
	run  func(s *scene)
}

// A scene is the directory that one check has for itself.
type scene struct {
	*testing.T
	Profile
	dir string
}

func newScene(t *testing.T, dir string, p Profile) *scene {
	t.Helper()
	own, err := os.MkdirTemp(dir, "posix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(own); err != nil && !t.Failed() {
			t.Errorf("remove what is left: %v", err)
		}
	})
	return &scene{t, p, own}
}

// path returns the path of a name in the scene. It does not clean: dots and
// slashes are what some checks are about.
func (s *scene) path(name string) string { return s.dir + "/" + name }

// want reports when a call answered something else than one of errnos, or than
// success where there are none.
func (s *scene) want(call string, err error, errnos ...syscall.Errno) {
	s.Helper()
	if len(errnos) == 0 || len(errnos) == 1 && errnos[0] == 0 {
		if err != nil {
			s.Errorf("%s: %s, want success", call, name(err))
		}
		return
	}
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return
		}
	}
	var names []string
	for _, errno := range errnos {
		names = append(names, unix.ErrnoName(errno))
	}
	s.Errorf("%s: %s, want %s", call, name(err), strings.Join(names, " or "))
}

// must ends the check when a call that it needs did not work.
func (s *scene) must(call string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %s, want success", call, name(err))
	}
}

func name(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(err)
}

// works reports whether the file system promises a feature. Where it does not,
// err must be what it promises to refuse it with.
func (s *scene) works(f Feature, err error) bool {
	s.Helper()
	if errno := s.Refuses[f]; errno != 0 {
		s.want(string(f), err, errno)
		return false
	}
	s.must(string(f), err)
	return true
}

// file makes a file and returns its path.
func (s *scene) file(name, content string) string {
	s.Helper()
	path := s.path(name)
	s.must("write "+name, os.WriteFile(path, []byte(content), 0o644))
	return path
}

// mkdir makes a directory and returns its path.
func (s *scene) mkdir(name string) string {
	s.Helper()
	path := s.path(name)
	s.must("mkdir "+name, os.MkdirAll(path, 0o755))
	return path
}

// open opens a file of the scene until the check ends.
func (s *scene) open(name string, flags int) *os.File {
	s.Helper()
	f, err := os.OpenFile(s.path(name), flags, 0o644)
	s.must("open "+name, err)
	s.Cleanup(func() { f.Close() })
	return f
}

// fd is open for what os.File would hide.
func (s *scene) fd(path string, flags int, mode uint32) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, mode) })
	if err == nil {
		s.Cleanup(func() { unix.Close(fd) })
	}
	return fd, err
}

// retry calls again what a signal interrupted, as the Go runtime's often do.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

func (s *scene) stat(path string) unix.Stat_t {
	s.Helper()
	var st unix.Stat_t
	s.must("lstat "+filepath.Base(path), unix.Lstat(path, &st))
	return st
}

// exists wants a name to be there, or not.
func (s *scene) exists(path string, want bool) {
	s.Helper()
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if want {
		s.want("lstat "+filepath.Base(path), err)
	} else {
		s.want("lstat "+filepath.Base(path), err, unix.ENOENT)
	}
}

// holds wants a file to hold content.
func (s *scene) holds(path, content string) {
	s.Helper()
	got, err := os.ReadFile(path)
	s.want("read "+filepath.Base(path), err)
	if string(got) != content {
		s.Errorf("%s holds %q, want %q", filepath.Base(path), short(string(got)), short(content))
	}
}

func short(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%s... (%d bytes)", s[:80], len(s))
	}
	return s
}

// umask sets the process's umask while do runs.
func umask(mask int, do func()) {
	defer unix.Umask(unix.Umask(mask))
	do()
}
