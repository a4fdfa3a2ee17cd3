//go:build linux

package posix

import (
	"os"

	"golang.org/x/sys/unix"
)

var mapChecks = []check{
	{"shared write", func(s *scene) {
		path := s.file("f", noise(20_000))
		f := s.open("f", os.O_RDWR)
		pages := s.mmap(f, 20_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		want := []byte(noise(20_000))
		copy(pages[9000:], "mapped")
		copy(want[9000:], "mapped")
		b := make([]byte, 6)
		if _, err := f.ReadAt(b, 9000); err != nil || string(b) != "mapped" {
			s.Errorf("read before msync: %q, %v", b, err)
		}
		s.want("msync", unix.Msync(pages, unix.MS_SYNC))
		s.holds(path, string(want))
		s.must("close", f.Close())
		s.holds(path, string(want))
	}},
	{"write after close", func(s *scene) {
		path := s.file("f", "0123456789")
		f := s.open("f", os.O_RDWR)
		pages, err := unix.Mmap(int(f.Fd()), 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.must("mmap", err)
		s.must("close", f.Close())
		copy(pages[2:], "abc")
		s.want("msync", unix.Msync(pages, unix.MS_SYNC))
		s.want("munmap", unix.Munmap(pages))
		s.holds(path, "01abc56789")
	}},
	{"sees writes", func(s *scene) {
		s.file("f", "0123456789")
		f := s.open("f", os.O_RDWR)
		pages := s.mmap(f, 10, unix.PROT_READ, unix.MAP_SHARED)
		_, err := f.WriteAt([]byte("new"), 4)
		s.must("pwrite", err)
		if string(pages) != "0123new789" {
			s.Errorf("the mapping has %q", pages)
		}
	}},
	{"private", func(s *scene) {
		path := s.file("f", "0123456789")
		pages := s.mmap(s.open("f", os.O_RDONLY), 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		copy(pages, "private")
		s.holds(path, "0123456789")
	}},
	{"two mappings", func(s *scene) {
		s.file("f", noise(8192))
		one := s.mmap(s.open("f", os.O_RDWR), 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		two := s.mmap(s.open("f", os.O_RDWR), 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(one[5000:], "from one")
		if string(two[5000:5008]) != "from one" {
			s.Errorf("the second mapping has %q", two[5000:5008])
		}
	}},
	{"errnos", func(s *scene) {
		s.file("f", "x")
		_, err := unix.Mmap(int(s.open("f", os.O_RDONLY).Fd()), 0, 1, unix.PROT_WRITE, unix.MAP_SHARED)
		s.want("shared write of O_RDONLY", err, unix.EACCES)
		_, err = unix.Mmap(int(s.open("f", os.O_WRONLY).Fd()), 0, 1, unix.PROT_READ, unix.MAP_SHARED)
		s.want("read of O_WRONLY", err, unix.EACCES)
	}},
	{"of an unlinked file", func(s *scene) {
		path := s.file("f", "0123456789")
		pages := s.mmap(s.open("f", os.O_RDWR), 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.must("unlink", unix.Unlink(path))
		copy(pages, "gone")
		s.want("msync", unix.Msync(pages, unix.MS_SYNC))
		if string(pages) != "gone456789" {
			s.Errorf("the mapping has %q", pages)
		}
		s.exists(path, false)
	}},
}

func (s *scene) mmap(f *os.File, size, prot, flags int) []byte {
	s.Helper()
	pages, err := unix.Mmap(int(f.Fd()), 0, size, prot, flags)
	s.must("mmap", err)
	s.Cleanup(func() { unix.Munmap(pages) })
	return pages
}
