//go:build linux

package posix

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var truncateChecks = []check{
	{"down and up", func(s *scene) {
		path := s.file("f", strings.Repeat("x", 10_000))
		s.want("truncate down", unix.Truncate(path, 5))
		s.holds(path, "xxxxx")
		s.want("truncate up", unix.Truncate(path, 9000))
		s.holds(path, "xxxxx"+strings.Repeat("\x00", 8995))
		s.want("truncate to 0", unix.Truncate(path, 0))
		s.holds(path, "")
	}},
	{"of an open file", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "0123456789"))
		s.want("ftruncate", unix.Ftruncate(int(f.Fd()), 4))
		s.holds(s.path("f"), "0123")
		s.must("write after the end", writeAll(f, "x")) // its offset is still 10
		s.holds(s.path("f"), "0123\x00\x00\x00\x00\x00\x00x")
		s.want("truncate by path", unix.Truncate(s.path("f"), 2))
		if fi, err := f.Stat(); err != nil || fi.Size() != 2 {
			s.Errorf("fstat: %d, %v", fi.Size(), err)
		}
		s.must("close", f.Close())
		s.holds(s.path("f"), "01")
	}},
	{"errnos", func(s *scene) {
		path := s.file("f", "x")
		s.mkdir("d")
		s.want("of none", unix.Truncate(s.path("none"), 0), unix.ENOENT)
		s.want("below a file", unix.Truncate(s.path("f/none"), 0), unix.ENOTDIR)
		s.want("of a directory", unix.Truncate(s.path("d"), 0), unix.EISDIR)
		s.want("to -1", unix.Truncate(path, -1), unix.EINVAL)
		fd, err := s.fd(path, unix.O_RDONLY, 0)
		s.must("open", err)
		s.want("of O_RDONLY", unix.Ftruncate(fd, 0), unix.EINVAL, unix.EBADF)
		s.holds(path, "x")
	}},
	{"to the same size", func(s *scene) {
		path := s.file("f", "same")
		s.want("truncate", unix.Truncate(path, 4))
		s.holds(path, "same")
	}},
}

var spaceChecks = []check{
	{"SEEK_DATA and SEEK_HOLE", seekHoles},
	{"sparse", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("ftruncate", f.Truncate(1<<20))
		_, err := f.WriteAt([]byte("x"), 512<<10)
		s.must("pwrite", err)
		s.must("close", f.Close())
		want := make([]byte, 1<<20)
		want[512<<10] = 'x'
		s.holds(s.path("f"), string(want))
	}},
	{"fallocate", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "content"))
		if s.works(Allocate, unix.Fallocate(int(f.Fd()), 0, 0, 10_000)) {
			s.holds(s.path("f"), "content"+strings.Repeat("\x00", 9993))
		}
		s.want("fallocate KEEP_SIZE", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 20_000), s.Refuses[Allocate])
		s.want("fallocate of nothing", unix.Fallocate(int(f.Fd()), 0, 0, 0), unix.EINVAL)
	}},
	{"punch hole", func(s *scene) { s.clears(PunchHole, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE) }},
	{"zero range", func(s *scene) { s.clears(ZeroRange, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE) }},
	{"statfs", func(s *scene) {
		var st unix.Statfs_t
		s.must("statfs", unix.Statfs(s.dir, &st))
		if st.Bsize <= 0 || st.Blocks < st.Bfree || st.Bfree < st.Bavail || st.Namelen != 255 {
			s.Errorf("statfs: %+v", st)
		}
	}},
	{"st_blocks", func(s *scene) {
		path := s.file("f", noise(100_000))
		f := s.open("f", os.O_RDWR)
		s.must("fsync", f.Sync()) // ext4 allocates late
		if st := s.stat(path); st.Blocks*512 < 100_000 || st.Blocks*512 > 1<<20 || st.Blksize < 512 {
			s.Errorf("%d blocks of 512 bytes, st_blksize %d: du would be wrong", st.Blocks, st.Blksize)
		}
	}},
}

// clears wants a mode of fallocate to make zeros of a range.
func (s *scene) clears(feature Feature, mode uint32) {
	want := []byte(noise(100_000))
	path := s.file("f", string(want))
	f := s.open("f", os.O_RDWR)
	if !s.works(feature, unix.Fallocate(int(f.Fd()), mode, 5000, 50_000)) {
		return
	}
	copy(want[5000:55_000], make([]byte, 50_000))
	s.holds(path, string(want))
	s.must("close", f.Close())
	s.holds(path, string(want))
}

// seekHoles wants data to be found where it is, and no data where SEEK_HOLE
// says so. A file system may call everything data.
func seekHoles(s *scene) {
	f := s.open("f", os.O_CREATE|os.O_RDWR)
	const second, size = 1 << 20, 2 << 20
	_, err := f.WriteAt(bytes.Repeat([]byte("x"), 64<<10), 0)
	s.must("pwrite", err)
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), 64<<10), second)
	s.must("pwrite", err)
	s.must("ftruncate", f.Truncate(size))
	fd := int(f.Fd())
	for _, tc := range []struct {
		name        string
		off         int64
		whence      int
		least, most int64
	}{
		{"SEEK_DATA from the start", 0, unix.SEEK_DATA, 0, 0},
		{"SEEK_HOLE from the start", 0, unix.SEEK_HOLE, 64 << 10, size},
		{"SEEK_DATA from the hole", 128 << 10, unix.SEEK_DATA, 128 << 10, second},
		{"SEEK_HOLE from the second data", second, unix.SEEK_HOLE, second + 64<<10, size},
	} {
		got, err := unix.Seek(fd, tc.off, tc.whence)
		if err != nil || got < tc.least || got > tc.most {
			s.Errorf("%s: %d, %v, want %d to %d", tc.name, got, err, tc.least, tc.most)
		}
	}
	_, err = unix.Seek(fd, size, unix.SEEK_DATA)
	s.want("SEEK_DATA at the end", err, unix.ENXIO)
	_, err = unix.Seek(fd, size+1, unix.SEEK_HOLE)
	s.want("SEEK_HOLE after the end", err, unix.ENXIO)
}
