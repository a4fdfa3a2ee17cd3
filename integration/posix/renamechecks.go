//go:build linux

package posix

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

var unlinkChecks = []check{
	{"errnos", func(s *scene) {
		s.file("f", "x")
		s.mkdir("d")
		s.errnos("unlink", unix.Unlink, []answer{
			{"f", 0}, {"f", unix.ENOENT}, {"none/f", unix.ENOENT}, {"d", unix.EISDIR},
		})
		s.file("f", "x")
		s.want("unlink f/none", unix.Unlink(s.path("f/none")), unix.ENOTDIR)
		s.holds(s.path("f"), "x")
	}},
	{"while open", unlinkOpen},
	{"new file of the name", func(s *scene) {
		path := s.file("f", "old content")
		old := s.open("f", os.O_RDWR)
		s.must("unlink", unix.Unlink(path))
		s.file("f", "new")
		_, err := old.WriteAt([]byte("OLD"), 0)
		s.want("write to the old", err)
		s.holds(path, "new")
		s.want("close of the old", old.Close())
		s.holds(path, "new")
	}},
	{"written and never named again", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "x"))
		s.must("unlink", unix.Unlink(s.path("f")))
		s.must("write", writeAll(f, "y"))
		s.want("fsync", f.Sync())
		s.want("close", f.Close())
		s.exists(s.path("f"), false)
	}},
}

func unlinkOpen(s *scene) {
	path := s.file("f", "0123456789")
	f := s.open("f", os.O_RDWR)
	s.must("unlink", unix.Unlink(path))
	s.exists(path, false)
	b := make([]byte, 10)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "0123456789" {
		s.Errorf("read: %q, %v", b, err)
	}
	_, err := f.WriteAt([]byte("more"), 10)
	s.want("write", err)
	s.want("ftruncate", unix.Ftruncate(int(f.Fd()), 12))
	var st unix.Stat_t
	s.want("fstat", unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 || st.Size != 12 {
		s.Errorf("nlink is %d, size %d, want 0 and 12", st.Nlink, st.Size)
	}
	if n, err := f.ReadAt(b, 8); n != 4 || string(b[:n]) != "89mo" {
		s.Errorf("read: %q, %v", b[:n], err)
	}
	s.want("fchmod", unix.Fchmod(int(f.Fd()), 0o600))
}

// What can stand at a name before a rename.
const (
	absent = "nothing"
	file   = "file"
	empty  = "empty directory"
	full   = "full directory"
)

// renameChecks has a check for all that can stand at both names.
func renameChecks() []check {
	checks := slicesOf(renameMore)
	for _, tc := range []struct {
		from, to string
		want     []syscall.Errno
	}{
		{absent, absent, []syscall.Errno{unix.ENOENT}}, {absent, file, []syscall.Errno{unix.ENOENT}},
		{absent, empty, []syscall.Errno{unix.ENOENT}}, {absent, full, []syscall.Errno{unix.ENOENT}},
		{file, absent, nil}, {file, file, nil}, {file, empty, []syscall.Errno{unix.EISDIR}}, {file, full, []syscall.Errno{unix.EISDIR, unix.ENOTEMPTY}},
		{empty, absent, nil}, {empty, file, []syscall.Errno{unix.ENOTDIR}}, {empty, empty, nil}, {empty, full, []syscall.Errno{unix.ENOTEMPTY, unix.EEXIST}},
		{full, absent, nil}, {full, file, []syscall.Errno{unix.ENOTDIR}}, {full, empty, nil}, {full, full, []syscall.Errno{unix.ENOTEMPTY, unix.EEXIST}},
	} {
		for _, across := range []string{"", "other/"} {
			checks = append(checks, check{tc.from + " over " + tc.to + " " + filepath.Base(across), func(s *scene) {
				s.renames(tc.from, "from", tc.to, across+"to", tc.want)
			}})
		}
	}
	return checks
}

func slicesOf(checks []check) []check { return append([]check(nil), checks...) }

// place puts something at a name.
func (s *scene) place(kind, name string) {
	switch kind {
	case file:
		s.file(name, "content of "+filepath.Base(name))
	case empty:
		s.mkdir(name)
	case full:
		s.mkdir(name + "/sub")
		s.file(name+"/sub/f", "content of "+filepath.Base(name))
	}
}

// stands wants what place put at name origin to be at a name.
func (s *scene) stands(kind, origin, name string) {
	s.Helper()
	s.exists(s.path(name), kind != absent)
	switch kind {
	case file:
		s.holds(s.path(name), "content of "+filepath.Base(origin))
	case empty:
		s.same("readdir "+name, s.names(name), nil)
	case full:
		s.holds(s.path(name+"/sub/f"), "content of "+filepath.Base(origin))
	}
}

func (s *scene) renames(kind, from, over, to string, want []syscall.Errno) {
	s.mkdir("other")
	s.place(kind, from)
	s.place(over, to)
	s.want("rename", unix.Rename(s.path(from), s.path(to)), want...)
	if want != nil {
		s.stands(kind, from, from)
		s.stands(over, to, to)
		return
	}
	s.stands(absent, from, from)
	s.stands(kind, from, to)
}

var renameMore = []check{
	{"errnos", func(s *scene) {
		s.mkdir("d/e")
		s.file("f", "x")
		rename := func(from, to string) error { return unix.Rename(s.path(from), s.path(to)) }
		s.want("into itself", rename("d", "d/e/d"), unix.EINVAL)
		s.want("into itself at once", rename("d", "d/d"), unix.EINVAL)
		s.want("over its parent", rename("d/e", "d"), unix.ENOTEMPTY, unix.EEXIST)
		s.want("to no directory", rename("f", "none/f"), unix.ENOENT)
		s.want("below a file", rename("d", "f/d"), unix.ENOTDIR)
		s.want("from below a file", rename("f/x", "g"), unix.ENOTDIR)
		s.want("to itself", rename("f", "f"))
		s.want("of a directory to itself", rename("d", "d"))
		s.holds(s.path("f"), "x")
		s.exists(s.path("d/e"), true)
	}},
	{"NOREPLACE", func(s *scene) {
		a, b := s.file("a", "a"), s.file("b", "b")
		s.want("over a file", noReplace(a, b), unix.EEXIST)
		s.holds(a, "a")
		s.holds(b, "b")
		s.want("over a directory", noReplace(a, s.mkdir("d")), unix.EEXIST)
		s.want("over nothing", noReplace(a, s.path("c")))
		s.holds(s.path("c"), "a")
		s.want("of nothing", noReplace(a, s.path("e")), unix.ENOENT)
	}},
	{"EXCHANGE", func(s *scene) {
		a, b := s.file("a", "a"), s.file("b", "b")
		err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		if s.works(ExchangeNames, err) {
			a, b = b, a
			s.want("exchange with nothing", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, s.path("none"), unix.RENAME_EXCHANGE), unix.ENOENT)
		}
		s.holds(a, "a")
		s.holds(b, "b")
	}},
	{"WHITEOUT", func(s *scene) {
		err := unix.Renameat2(unix.AT_FDCWD, s.file("a", "a"), unix.AT_FDCWD, s.path("b"), unix.RENAME_WHITEOUT)
		if !s.works(Whiteouts, err) {
			s.holds(s.path("a"), "a")
		}
	}},
	{"while open", func(s *scene) {
		from, to := s.file("a", "0123456789"), s.path("b")
		f := s.open("a", os.O_RDWR)
		s.must("rename", unix.Rename(from, to))
		_, err := f.WriteAt([]byte("more"), 10)
		s.want("write", err)
		s.holds(to, "0123456789more")
		s.want("close", f.Close())
		s.holds(to, "0123456789more")
		s.exists(from, false)
	}},
	{"of a directory with an open file", func(s *scene) {
		s.mkdir("d")
		f := s.open("d/f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "one "))
		s.must("rename", unix.Rename(s.path("d"), s.path("e")))
		s.must("write", writeAll(f, "two"))
		s.want("close", f.Close())
		s.holds(s.path("e/f"), "one two")
		s.exists(s.path("d"), false)
	}},
	{"over an open file", func(s *scene) {
		from, to := s.file("a", "new content"), s.file("b", "old content")
		f := s.open("b", os.O_RDWR)
		s.must("rename", unix.Rename(from, to))
		b := make([]byte, 11)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "old content" {
			s.Errorf("the replaced file reads %q, %v", b, err)
		}
		_, err := f.WriteAt([]byte("OLD"), 0)
		s.want("write to the replaced", err)
		s.want("close", f.Close())
		s.holds(to, "new content")
	}},
	{"saved by rename many times", func(s *scene) {
		for i := range 50 {
			want := noise(i * 100)
			s.must("rename", unix.Rename(s.file("f.tmp", want), s.path("f")))
			s.holds(s.path("f"), want)
		}
		s.same("readdir", s.names("."), []string{"f"})
	}},
	{"back and forth", func(s *scene) {
		a, b := s.file("a", "content"), s.path("b")
		for range 20 {
			s.must("rename", unix.Rename(a, b))
			s.exists(a, false)
			a, b = b, a
		}
		s.holds(a, "content")
	}},
	{"keeps mode and time", func(s *scene) {
		path := s.file("a", "x")
		s.must("chmod", unix.Chmod(path, 0o640))
		s.must("utimensat", setTimes(path, 1e9, 5, 1e9, 6))
		s.must("rename", unix.Rename(path, s.path("b")))
		if st := s.stat(s.path("b")); st.Mode&0o7777 != 0o640 || st.Mtim != (unix.Timespec{Sec: 1e9, Nsec: 6}) {
			s.Errorf("mode %o, mtime %v", st.Mode, st.Mtim)
		}
	}},
}

func noReplace(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}
