//go:build linux

package posix

import (
	"os"

	"golang.org/x/sys/unix"
)

var linkChecks = []check{
	{"link", func(s *scene) {
		a, b := s.file("a", "content"), s.path("b")
		if !s.works(HardLinks, unix.Link(a, b)) {
			s.exists(b, false)
			return
		}
		if one, two := s.stat(a), s.stat(b); one.Ino != two.Ino || one.Nlink != 2 {
			s.Errorf("inodes %d and %d, nlink %d", one.Ino, two.Ino, one.Nlink)
		}
		s.want("link over", unix.Link(a, b), unix.EEXIST)
		s.want("rename over the other name", unix.Rename(a, b))
		s.exists(a, true)
		s.must("unlink", unix.Unlink(a))
		s.holds(b, "content")
	}},
	{"link of a directory", func(s *scene) {
		want := unix.EPERM
		if errno := s.Refuses[HardLinks]; errno != 0 {
			s.want("link", unix.Link(s.mkdir("d"), s.path("e")), errno, want)
			return
		}
		s.want("link", unix.Link(s.mkdir("d"), s.path("e")), want)
	}},
	{"symlink", func(s *scene) {
		s.file("f", "content")
		if !s.works(Symlinks, unix.Symlink("f", s.path("l"))) {
			s.exists(s.path("l"), false)
			return
		}
		s.holds(s.path("l"), "content")
		target, err := os.Readlink(s.path("l"))
		if err != nil || target != "f" {
			s.Errorf("readlink: %q, %v", target, err)
		}
		if st := s.stat(s.path("l")); st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Size != 1 {
			s.Errorf("mode %o, size %d", st.Mode, st.Size)
		}
		s.want("symlink over", unix.Symlink("g", s.path("l")), unix.EEXIST)
		_, err = s.fd(s.path("l"), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		s.want("open O_NOFOLLOW", err, unix.ELOOP)
		s.must("unlink", unix.Unlink(s.path("l")))
		s.holds(s.path("f"), "content")
	}},
	{"symlinks that lead nowhere", func(s *scene) {
		if s.Refuses[Symlinks] != 0 {
			return
		}
		var st unix.Stat_t
		s.must("symlink", unix.Symlink("none", s.path("dangling")))
		s.want("stat", unix.Stat(s.path("dangling"), &st), unix.ENOENT)
		_, err := s.fd(s.path("dangling"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
		s.want("open O_EXCL", err, unix.EEXIST)
		s.must("symlink", unix.Symlink("loop", s.path("loop")))
		s.want("stat of a loop", unix.Stat(s.path("loop"), &st), unix.ELOOP)
		s.must("rename", unix.Rename(s.path("loop"), s.path("moved")))
		target, err := os.Readlink(s.path("moved"))
		if err != nil || target != "loop" {
			s.Errorf("readlink: %q, %v", target, err)
		}
	}},
	{"symlink to a directory", func(s *scene) {
		if s.Refuses[Symlinks] != 0 {
			return
		}
		s.mkdir("d")
		s.must("symlink", unix.Symlink("d", s.path("l")))
		s.file("l/f", "through")
		s.holds(s.path("d/f"), "through")
		s.want("rmdir", unix.Rmdir(s.path("l")), unix.ENOTDIR)
	}},
	{"readlink of a file", func(s *scene) {
		_, err := unix.Readlink(s.file("f", "x"), make([]byte, 10))
		s.want("readlink", err, unix.EINVAL)
	}},
	{"mknod", func(s *scene) {
		for _, tc := range []struct {
			feature Feature
			mode    uint32
		}{{FIFOs, unix.S_IFIFO}, {Sockets, unix.S_IFSOCK}, {Devices, unix.S_IFCHR}} {
			path := s.path(string(tc.feature))
			if s.works(tc.feature, unix.Mknod(path, tc.mode|0o600, int(unix.Mkdev(1, 3)))) {
				if got := s.stat(path).Mode & unix.S_IFMT; got != tc.mode {
					s.Errorf("%s: type %o, want %o", tc.feature, got, tc.mode)
				}
			} else {
				s.exists(path, false)
			}
		}
		s.want("mknod of a file", unix.Mknod(s.path("f"), unix.S_IFREG|0o644, 0))
		s.holds(s.path("f"), "")
	}},
}
