//go:build linux

package posix

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var dataChecks = []check{
	{"pread beyond the end", func(s *scene) {
		f := s.file("f", "four")
		fd, err := s.fd(f, unix.O_RDWR, 0)
		s.must("open", err)
		for _, off := range []int64{4, 5, 1 << 40} {
			n, err := unix.Pread(fd, make([]byte, 10), off)
			if n != 0 || err != nil {
				s.Errorf("pread at %d: %d bytes, %v", off, n, err)
			}
		}
		if n, err := unix.Pread(fd, make([]byte, 10), 2); n != 2 || err != nil {
			s.Errorf("pread over the end: %d bytes, %v", n, err)
		}
		_, err = unix.Pread(fd, make([]byte, 10), -1)
		s.want("pread at -1", err, unix.EINVAL)
		_, err = unix.Pwrite(fd, make([]byte, 10), -1)
		s.want("pwrite at -1", err, unix.EINVAL)
	}},
	{"pwrite beyond the end", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		_, err := f.WriteAt([]byte("end"), 10_000)
		s.must("pwrite", err)
		s.holds(s.path("f"), strings.Repeat("\x00", 10_000)+"end")
		s.must("close", f.Close())
		s.holds(s.path("f"), strings.Repeat("\x00", 10_000)+"end")
	}},
	{"nothing written", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		n, err := unix.Pwrite(int(f.Fd()), nil, 100)
		if n != 0 || err != nil || s.stat(s.path("f")).Size != 0 {
			s.Errorf("%d, %v, size %d", n, err, s.stat(s.path("f")).Size)
		}
	}},
	{"seek", func(s *scene) {
		fd, err := s.fd(s.file("f", "0123456789"), unix.O_RDONLY, 0)
		s.must("open", err)
		for _, tc := range []struct {
			off    int64
			whence int
			want   int64
		}{{3, unix.SEEK_SET, 3}, {2, unix.SEEK_CUR, 5}, {-1, unix.SEEK_END, 9}, {90, unix.SEEK_END, 100}} {
			got, err := unix.Seek(fd, tc.off, tc.whence)
			if got != tc.want || err != nil {
				s.Errorf("seek %d from %d: %d, %v, want %d", tc.off, tc.whence, got, err, tc.want)
			}
		}
		_, err = unix.Seek(fd, -1, unix.SEEK_SET)
		s.want("seek to -1", err, unix.EINVAL)
	}},
	{"vectors", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		n, err := unix.Pwritev(int(f.Fd()), [][]byte{[]byte("ab"), []byte("cde")}, 1)
		if n != 5 || err != nil {
			s.Errorf("pwritev: %d, %v", n, err)
		}
		a, b := make([]byte, 4), make([]byte, 4)
		n, err = unix.Preadv(int(f.Fd()), [][]byte{a, b}, 0)
		if n != 6 || err != nil || string(a)+string(b) != "\x00abcde\x00\x00" {
			s.Errorf("preadv: %d, %v, %q %q", n, err, a, b)
		}
	}},
	{"two descriptors", func(s *scene) {
		one, two := s.open("f", os.O_CREATE|os.O_RDWR), s.open("f", os.O_RDWR)
		for i := range 20 {
			want := fmt.Sprintf("written %d", i)
			_, err := one.WriteAt([]byte(want), 0)
			s.must("pwrite", err)
			got := make([]byte, len(want))
			if _, err := two.ReadAt(got, 0); err != nil || string(got) != want {
				s.Fatalf("the other descriptor reads %q, %v, want %q", got, err, want)
			}
			one, two = two, one
		}
	}},
	{"dup", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		fd, err := unix.Dup(int(f.Fd()))
		s.must("dup", err)
		s.must("close of the first", f.Close())
		_, err = unix.Write(fd, []byte("later"))
		s.want("write", err)
		s.want("close of the second", unix.Close(fd))
		s.holds(s.path("f"), "later")
	}},
	{"large offsets", largeOffsets},
	{"O_DIRECT", directIO},
	{"copy_file_range", func(s *scene) {
		want := noise(300_000)
		from, to := s.file("from", want), s.path("to")
		out := s.open("to", os.O_CREATE|os.O_RDWR)
		s.want("copy_file_range", copyRange(s.open("from", os.O_RDONLY), out, 0, 0, 200_000))
		s.want("copy_file_range", copyRange(s.open("from", os.O_RDONLY), out, 200_000, 200_000, 100_000))
		s.must("close", out.Close())
		s.holds(to, want)
		s.holds(from, want)
	}},
	{"sendfile", sendFile},
	{"fsync", func(s *scene) {
		f := s.open("f", os.O_CREATE|os.O_RDWR)
		s.must("write", writeAll(f, "content"))
		s.want("fsync", unix.Fsync(int(f.Fd())))
		s.want("fsync of nothing new", unix.Fsync(int(f.Fd())))
		s.must("write", writeAll(f, " more"))
		s.want("fdatasync", unix.Fdatasync(int(f.Fd())))
		s.want("syncfs", unix.Syncfs(int(f.Fd())))
		dir, err := s.fd(s.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		s.must("open the directory", err)
		s.want("fsync of the directory", unix.Fsync(dir))
		s.holds(s.path("f"), "content more")
	}},
	{"many sizes", func(s *scene) {
		for _, size := range []int{0, 1, 4095, 4096, 4097, 65_536, 131_071, 131_073, 1 << 20, 1<<20 + 1, 5<<20 + 7} {
			want := noise(size)
			s.holds(s.file(fmt.Sprint("f", size), want), want)
		}
	}},
	{"random writes", randomWrites},
}

// noise returns n bytes of a kind that no two offsets share.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return string(b)
}

// largeOffsets works on a file without a name, which nobody has to store.
func largeOffsets(s *scene) {
	f := s.open("f", os.O_CREATE|os.O_RDWR)
	s.must("unlink", unix.Unlink(s.path("f")))
	for _, off := range []int64{1<<31 - 3, 1<<32 - 3, 5 << 30} {
		_, err := f.WriteAt([]byte("large"), off)
		s.must(fmt.Sprint("pwrite at ", off), err)
		b := make([]byte, 5)
		_, err = f.ReadAt(b, off)
		if string(b) != "large" || err != nil {
			s.Errorf("at %d: %q, %v", off, b, err)
		}
		fi, err := f.Stat()
		if err != nil || fi.Size() != off+5 {
			s.Errorf("size %d, %v, want %d", fi.Size(), err, off+5)
		}
	}
	b := make([]byte, 100)
	if n, err := f.ReadAt(b, 3<<30); n != 100 || err != nil || !bytes.Equal(b, make([]byte, 100)) {
		s.Errorf("in the hole: %d, %v, %x", n, err, b)
	}
}

func directIO(s *scene) {
	want := noise(64 << 10)
	path := s.file("f", want)
	fd, err := s.fd(path, unix.O_RDWR|unix.O_DIRECT, 0)
	if !s.works(DirectIO, err) {
		return
	}
	b := aligned(64 << 10)
	n, err := unix.Pread(fd, b, 0)
	if n != len(b) || err != nil || string(b) != want {
		s.Errorf("pread: %d, %v", n, err)
	}
	for i := range 4096 {
		b[i] = byte(i)
	}
	_, err = unix.Pwrite(fd, b[:4096], 8192)
	s.want("pwrite", err)
	s.holds(path, want[:8192]+string(b[:4096])+want[8192+4096:])
	n, err = unix.Pread(fd, b, 64<<10)
	if n != 0 || err != nil {
		s.Errorf("pread at the end: %d, %v", n, err)
	}
}

// aligned returns n bytes that begin on a page, as O_DIRECT needs.
func aligned(n int) []byte {
	page := os.Getpagesize()
	b := make([]byte, n+page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(page))) % page
	return b[skip : skip+n : skip+n]
}

func sendFile(s *scene) {
	want := noise(200_000)
	s.file("from", want)
	in, out := s.open("from", os.O_RDONLY), s.open("to", os.O_CREATE|os.O_WRONLY)
	for sent := 0; sent < len(want); {
		n, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), nil, len(want)-sent)
		s.must("sendfile", err)
		if n == 0 {
			s.Fatalf("sendfile stopped after %d bytes", sent)
		}
		sent += n
	}
	s.must("close", out.Close())
	s.holds(s.path("to"), want)
}

func randomWrites(s *scene) {
	want := []byte(noise(1 << 20))
	f := s.open("f", os.O_CREATE|os.O_RDWR)
	_, err := f.Write(want)
	s.must("write", err)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off, b := rnd.IntN(1<<20-9000), []byte(noise(1+rnd.IntN(9000)))
		copy(want[off:], b)
		_, err := f.WriteAt(b, int64(off))
		s.must("pwrite", err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 2<<20))
	if err != nil || !bytes.Equal(got, want) {
		s.Errorf("before the close: %d bytes, %v", len(got), err)
	}
	s.must("close", f.Close())
	s.holds(s.path("f"), string(want))
}
