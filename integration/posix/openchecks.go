//go:build linux

package posix

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var openChecks = []check{
	{"errnos", openErrnos},
	{"O_EXCL", func(s *scene) {
		_, err := s.fd(s.path("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		s.want("open O_EXCL", err)
		_, err = s.fd(s.path("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		s.want("open O_EXCL again", err, unix.EEXIST)
		s.must("unlink", unix.Unlink(s.path("f")))
		_, err = s.fd(s.path("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		s.want("open O_EXCL after unlink", err)
	}},
	{"O_TRUNC", func(s *scene) {
		path := s.file("f", "content")
		other := s.open("f", os.O_RDONLY)
		f := s.open("f", os.O_WRONLY|os.O_TRUNC)
		if st := s.stat(path); st.Size != 0 {
			s.Errorf("size is %d after O_TRUNC", st.Size)
		}
		s.must("write", writeAll(f, "new"))
		s.must("close", f.Close())
		s.holds(path, "new")
		// What another descriptor sees is the file, not a copy of it; a file
		// system of versions may keep the old one for it.
		b := make([]byte, 10)
		if n, _ := other.ReadAt(b, 0); string(b[:n]) != "new" && string(b[:n]) != "content" {
			s.Errorf("the other descriptor reads %q", b[:n])
		}
	}},
	{"O_TRUNC and close", func(s *scene) {
		path := s.file("f", "content")
		s.must("close", s.open("f", os.O_WRONLY|os.O_TRUNC).Close())
		s.holds(path, "")
	}},
	{"O_APPEND", openAppend},
	{"O_APPEND by two", func(s *scene) {
		one, two := s.open("f", os.O_CREATE|os.O_WRONLY|os.O_APPEND), s.open("f", os.O_WRONLY|os.O_APPEND)
		var want strings.Builder
		for i := range 50 {
			a, b := fmt.Sprintf("one %d\n", i), fmt.Sprintf("two %d\n", i)
			s.must("write", writeAll(one, a))
			s.must("write", writeAll(two, b))
			want.WriteString(a + b)
		}
		s.must("close", one.Close())
		s.must("close", two.Close())
		s.holds(s.path("f"), want.String())
	}},
	{"modes of new files", func(s *scene) {
		for _, mode := range []uint32{0o644, 0o600, 0o755, 0o777, 0o400, 0o444, 0o666} {
			for _, mask := range []int{0, 0o22, 0o77} {
				name := fmt.Sprintf("f%o-%o", mode, mask)
				umask(mask, func() {
					fd, err := s.fd(s.path(name), unix.O_CREAT|unix.O_RDWR|unix.O_EXCL, mode)
					s.must("create "+name, err)
					_, err = unix.Write(fd, []byte("x"))
					s.want("write to new "+name, err) // whatever the mode says
				})
				if got, want := s.stat(s.path(name)).Mode&0o7777, mode&^uint32(mask); got != want {
					s.Errorf("mode %o with umask %o is %o, want %o", mode, mask, got, want)
				}
			}
		}
	}},
	{"O_PATH", func(s *scene) {
		fd, err := s.fd(s.file("f", "four"), unix.O_PATH, 0)
		s.must("open O_PATH", err)
		var st unix.Stat_t
		s.want("fstat", unix.Fstat(fd, &st))
		_, err = unix.Read(fd, make([]byte, 1))
		s.want("read O_PATH", err, unix.EBADF)
		if st.Size != 4 {
			s.Errorf("size is %d", st.Size)
		}
	}},
	{"openat", func(s *scene) {
		s.mkdir("d")
		s.file("d/f", "x")
		dir, err := s.fd(s.path("d"), unix.O_DIRECTORY|unix.O_RDONLY, 0)
		s.must("open d", err)
		fd, err := unix.Openat(dir, "f", unix.O_RDONLY, 0)
		s.want("openat", err)
		unix.Close(fd)
		s.must("rename d", unix.Rename(s.path("d"), s.path("e")))
		fd, err = unix.Openat(dir, "f", unix.O_RDONLY, 0)
		s.want("openat after the directory's rename", err)
		unix.Close(fd)
	}},
	{"O_TMPFILE", openTmpFile},
	{"many descriptors", func(s *scene) {
		path := s.file("f", "content")
		for range 200 {
			f := s.open("f", os.O_RDONLY)
			b := make([]byte, 7)
			if n, err := f.Read(b); err != nil || string(b[:n]) != "content" {
				s.Fatalf("%q, %v", b[:n], err)
			}
		}
		s.must("unlink", unix.Unlink(path))
	}},
}

func writeAll(f *os.File, content string) error {
	_, err := f.WriteString(content)
	return err
}

func openErrnos(s *scene) {
	s.file("file", "x")
	s.mkdir("dir")
	for _, tc := range []struct {
		path  string
		flags int
		want  []syscall.Errno
	}{
		{"none", unix.O_RDONLY, []syscall.Errno{unix.ENOENT}},
		{"none/none", unix.O_RDWR | unix.O_CREAT, []syscall.Errno{unix.ENOENT}},
		{"file/none", unix.O_RDONLY, []syscall.Errno{unix.ENOTDIR}},
		{"file/none", unix.O_RDWR | unix.O_CREAT, []syscall.Errno{unix.ENOTDIR}},
		{"file", unix.O_RDONLY | unix.O_DIRECTORY, []syscall.Errno{unix.ENOTDIR}},
		{"dir", unix.O_WRONLY, []syscall.Errno{unix.EISDIR}},
		{"dir", unix.O_RDWR, []syscall.Errno{unix.EISDIR}},
		{"dir", unix.O_RDONLY | unix.O_TRUNC, []syscall.Errno{unix.EISDIR}},
		{"dir", unix.O_RDWR | unix.O_CREAT, []syscall.Errno{unix.EISDIR}},
		{"dir", unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, []syscall.Errno{unix.EEXIST}},
		{"dir", unix.O_RDONLY | unix.O_DIRECTORY, nil},
		{"dir/none", unix.O_RDONLY | unix.O_DIRECTORY, []syscall.Errno{unix.ENOENT}},
		{"file", unix.O_RDWR, nil},
		{"file", unix.O_RDONLY | unix.O_NOFOLLOW, nil},
		{"file", unix.O_RDWR | unix.O_SYNC, nil},
		{"file", unix.O_RDWR | unix.O_DSYNC, nil},
		{"file", unix.O_RDONLY | unix.O_NOATIME, nil},
		{"file", unix.O_RDONLY | unix.O_NONBLOCK, nil},
	} {
		_, err := s.fd(s.path(tc.path), tc.flags, 0o644)
		s.want(fmt.Sprintf("open %s 0x%x", tc.path, tc.flags), err, tc.want...)
	}
	_, err := unix.Open("", unix.O_RDONLY, 0)
	s.want("open of no path", err, unix.ENOENT)
	s.wrongWay()
}

// wrongWay reads what is open for writing, and the other way around.
func (s *scene) wrongWay() {
	fd, err := s.fd(s.path("file"), unix.O_WRONLY, 0)
	s.must("open", err)
	_, err = unix.Read(fd, make([]byte, 1))
	s.want("read of O_WRONLY", err, unix.EBADF)
	fd, err = s.fd(s.path("file"), unix.O_RDONLY, 0)
	s.must("open", err)
	_, err = unix.Write(fd, []byte("x"))
	s.want("write of O_RDONLY", err, unix.EBADF)
	fd, err = s.fd(s.path("dir"), unix.O_RDONLY, 0)
	s.must("open dir", err)
	_, err = unix.Read(fd, make([]byte, 1))
	s.want("read of a directory", err, unix.EISDIR)
}

func openAppend(s *scene) {
	path := s.file("f", "begin ")
	fd, err := s.fd(path, unix.O_RDWR|unix.O_APPEND, 0)
	s.must("open O_APPEND", err)
	_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	s.want("seek", err)
	_, err = unix.Write(fd, []byte("middle "))
	s.want("write", err)
	_, err = unix.Pwrite(fd, []byte("end"), 0) // Linux appends all the same
	s.want("pwrite", err)
	b := make([]byte, 30)
	n, err := unix.Pread(fd, b, 0)
	s.want("pread", err)
	if string(b[:n]) != "begin middle end" {
		s.Errorf("the descriptor reads %q", b[:n])
	}
	s.holds(path, "begin middle end")
}

func openTmpFile(s *scene) {
	fd, err := s.fd(s.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if !s.works(TmpFiles, err) {
		return
	}
	_, err = unix.Write(fd, []byte("x"))
	s.want("write", err)
	var st unix.Stat_t
	s.want("fstat", unix.Fstat(fd, &st))
	if st.Nlink != 0 || st.Size != 1 {
		s.Errorf("nlink is %d, size %d", st.Nlink, st.Size)
	}
}
