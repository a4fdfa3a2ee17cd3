//go:build linux

package posix

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var attrChecks = []check{
	{"chmod", func(s *scene) {
		path := s.file("f", "content")
		for _, mode := range []uint32{0o600, 0o644, 0o755, 0o444, 0o777, 0, 0o640} {
			s.want("chmod", unix.Chmod(path, mode))
			if got := s.stat(path).Mode; got != unix.S_IFREG|mode {
				s.Errorf("mode is %o, want %o", got, unix.S_IFREG|mode)
			}
		}
		s.holds(path, "content")
		s.want("chmod of none", unix.Chmod(s.path("none"), 0o644), unix.ENOENT)
		s.want("chmod below a file", unix.Chmod(s.path("f/none"), 0o644), unix.ENOTDIR)
		s.want("chmod of a directory", unix.Chmod(s.mkdir("d"), 0o700))
		if got := s.stat(s.path("d")).Mode; got != unix.S_IFDIR|0o700 {
			s.Errorf("the directory's mode is %o", got)
		}
	}},
	{"fchmod while written", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "content"))
		s.want("fchmod", unix.Fchmod(int(f.Fd()), 0o751))
		s.must("close", f.Close())
		s.holds(s.path("f"), "content")
		if got := s.stat(s.path("f")).Mode & 0o7777; got != 0o751 {
			s.Errorf("mode is %o", got)
		}
	}},
	{"special bits", func(s *scene) {
		path := s.file("f", "x")
		err := unix.Chmod(path, 0o6755)
		if s.works(SpecialBits, err) && !s.Ignores[SpecialBits] {
			if got := s.stat(path).Mode & 0o7777; got != 0o6755 {
				s.Errorf("mode is %o", got)
			}
		}
	}},
	{"chown to oneself", func(s *scene) {
		path := s.file("f", "content")
		uid, gid := os.Getuid(), os.Getgid()
		s.want("chown", unix.Chown(path, uid, gid))
		s.want("chown of nothing", unix.Chown(path, -1, -1))
		s.want("lchown", unix.Lchown(path, uid, -1))
		s.want("chown of none", unix.Chown(s.path("none"), uid, gid), unix.ENOENT)
		if st := s.stat(path); int(st.Uid) != uid || int(st.Gid) != gid {
			s.Errorf("owned by %d:%d", st.Uid, st.Gid)
		}
		s.holds(path, "content")
	}},
	{"chown to others", func(s *scene) {
		if os.Getuid() != 0 {
			s.want("chown", unix.Chown(s.file("f", "x"), 0, 0), unix.EPERM)
			return
		}
		path := s.file("f", "content")
		if s.works(Chown, unix.Chown(path, 12345, 23456)) && !s.Ignores[Chown] {
			if st := s.stat(path); st.Uid != 12345 || st.Gid != 23456 {
				s.Errorf("owned by %d:%d", st.Uid, st.Gid)
			}
		}
		s.holds(path, "content")
	}},
	{"access", func(s *scene) {
		path := s.file("f", "x")
		s.want("F_OK", unix.Access(path, unix.F_OK))
		s.want("R_OK and W_OK", unix.Access(path, unix.R_OK|unix.W_OK))
		s.want("F_OK of none", unix.Access(s.path("none"), unix.F_OK), unix.ENOENT)
		s.want("F_OK below a file", unix.Access(s.path("f/none"), unix.F_OK), unix.ENOTDIR)
		s.works(ExecBit, unix.Access(path, unix.X_OK))
		s.must("chmod", unix.Chmod(path, 0o755))
		s.want("X_OK", unix.Access(path, unix.X_OK))
		s.want("of the directory", unix.Access(s.dir, unix.R_OK|unix.W_OK|unix.X_OK))
	}},
	{"inode stays", func(s *scene) {
		path := s.file("f", "x")
		ino := s.stat(path).Ino
		s.must("append", appendTo(path, "more"))
		s.must("chmod", unix.Chmod(path, 0o600))
		s.must("rename", unix.Rename(path, s.path("g")))
		s.must("rename", unix.Rename(s.path("g"), path))
		if got := s.stat(path).Ino; got != ino {
			s.Errorf("st_ino went from %d to %d", ino, got)
		}
	}},
	{"statx", func(s *scene) {
		var st unix.Statx_t
		s.must("statx", unix.Statx(unix.AT_FDCWD, s.file("f", "four"), 0, unix.STATX_BASIC_STATS, &st))
		if st.Size != 4 || st.Nlink != 1 || st.Mode != unix.S_IFREG|0o644 {
			s.Errorf("%+v", st)
		}
	}},
}

func appendTo(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := writeAll(f, content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func setTimes(path string, asec, ansec, msec, mnsec int64) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: asec, Nsec: ansec}, {Sec: msec, Nsec: mnsec}}, 0)
}

var timeChecks = []check{
	{"utimensat", func(s *scene) {
		path := s.file("f", "x")
		for _, sec := range []int64{0, 1, 1e9, 1<<31 - 1, 4102444800} {
			s.want("utimensat", setTimes(path, sec, 987654321, sec, 123456789))
			s.timed(path, sec, 987654321, sec, 123456789)
		}
		dir := s.mkdir("d")
		s.want("utimensat of a directory", setTimes(dir, 1e9, 1, 1e9, 2))
		s.timed(dir, 1e9, 1, 1e9, 2)
		s.want("utimensat of none", setTimes(s.path("none"), 1, 1, 1, 1), unix.ENOENT)
	}},
	{"UTIME_OMIT", func(s *scene) {
		path := s.file("f", "x")
		s.must("utimensat", setTimes(path, 1000, 1, 2000, 2))
		s.want("utimensat", setTimes(path, 3000, 3, 0, unix.UTIME_OMIT))
		s.timed(path, 3000, 3, 2000, 2)
		s.want("utimensat", setTimes(path, 0, unix.UTIME_OMIT, 4000, 4))
		s.timed(path, 3000, 3, 4000, 4)
	}},
	{"UTIME_NOW", func(s *scene) {
		path := s.file("f", "x")
		s.must("utimensat", setTimes(path, 1000, 1, 2000, 2))
		s.want("utimensat", setTimes(path, 0, unix.UTIME_NOW, 0, unix.UTIME_NOW))
		if st := s.stat(path); st.Mtim.Sec < 1_600_000_000 {
			s.Errorf("mtime is %v", st.Mtim)
		}
	}},
	{"set before close", func(s *scene) { // as cp -p, tar and rsync do
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "content"))
		s.want("futimens", setTimes(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 1e9, 5, 1e9, 6))
		s.timed(s.path("f"), 1e9, 5, 1e9, 6)
		s.must("close", f.Close())
		s.timed(s.path("f"), 1e9, 5, 1e9, 6)
	}},
	{"moves with writes", func(s *scene) {
		path := s.file("f", "x")
		for what, change := range map[string]func() error{
			"append":   func() error { return appendTo(path, "more") },
			"truncate": func() error { return unix.Truncate(path, 2) }, // another size, whichever came before
			"O_TRUNC":  func() error { return os.WriteFile(path, []byte("new"), 0) },
		} {
			s.must("utimensat", setTimes(path, 1e9, 1, 1e9, 2))
			s.must(what, change())
			if st := s.stat(path); st.Mtim.Sec == 1e9 {
				s.Errorf("mtime stays after %s", what)
			}
		}
	}},
	{"stays with reads", func(s *scene) {
		path := s.file("f", "x")
		s.must("utimensat", setTimes(path, 1e9, 1, 1e9, 2))
		s.holds(path, "x")
		s.must("close", s.open("f", os.O_RDWR).Close())
		s.must("chmod", unix.Chmod(path, 0o600))
		if st := s.stat(path); st.Mtim != (unix.Timespec{Sec: 1e9, Nsec: 2}) {
			s.Errorf("mtime is %v", st.Mtim)
		}
	}},
	{"of a directory", func(s *scene) {
		dir := s.mkdir("d")
		s.must("utimensat", setTimes(dir, 1e9, 1, 1e9, 2))
		s.file("d/f", "x")
		if st := s.stat(dir); st.Mtim.Sec == 1e9 && !s.Ignores[DirTimes] {
			s.Error("mtime stays when a file is made")
		}
	}},
}

// timed wants a file to have these times.
func (s *scene) timed(path string, asec, ansec, msec, mnsec int64) {
	s.Helper()
	st := s.stat(path)
	if want := (unix.Timespec{Sec: msec, Nsec: mnsec}); st.Mtim != want {
		s.Errorf("mtime is %v, want %v", st.Mtim, want)
	}
	if want := (unix.Timespec{Sec: asec, Nsec: ansec}); st.Atim != want && !s.Ignores[AccessTimes] {
		s.Errorf("atime is %v, want %v", st.Atim, want)
	}
}
