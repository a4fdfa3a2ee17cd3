//go:build linux

package posix

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var readdirChecks = []check{
	{"all once", func(s *scene) {
		want := s.fill("d")
		s.same("readdir", s.names("d"), want)
		s.same("readdir again", s.names("d"), want)
	}},
	{"types and inodes", func(s *scene) {
		s.file("f", "x")
		s.mkdir("d")
		for _, e := range s.entries(".") {
			st := s.stat(s.path(e.name))
			if e.name == ".." {
				continue // a mount's root may not know its parent
			}
			if e.ino != st.Ino {
				s.Errorf("%s has inode %d by readdir and %d by stat", e.name, e.ino, st.Ino)
			}
			if want := byte(st.Mode & unix.S_IFMT >> 12); e.typ != want && e.typ != unix.DT_UNKNOWN {
				s.Errorf("%s has type %d, want %d", e.name, e.typ, want)
			}
		}
	}},
	{"dots", func(s *scene) {
		s.mkdir("d")
		var names []string
		for _, e := range s.entries("d") {
			names = append(names, e.name)
		}
		s.same("readdir", names, []string{".", ".."})
	}},
	{"seekdir", seekDir},
	{"rewind", func(s *scene) {
		s.mkdir("d")
		s.file("d/old", "x")
		d := s.open("d", os.O_RDONLY)
		s.same("readdir", plain(s.read(d)), []string{"old"})
		s.file("d/new", "x")
		s.must("unlink old", unix.Unlink(s.path("d/old")))
		_, err := d.Seek(0, 0)
		s.must("rewind", err)
		s.same("readdir after rewind", plain(s.read(d)), []string{"new"})
	}},
	{"while it changes", changingDir},
	{"remove while reading", func(s *scene) {
		s.fill("d")
		d := s.open("d", os.O_RDONLY)
		for range 100 { // as rm -r does: what is left after a pass is found by the next
			names := plain(s.read(d))
			if len(names) == 0 {
				break
			}
			for _, name := range names {
				s.must("unlink", unix.Unlink(s.path("d/"+name)))
			}
			_, err := d.Seek(0, 0)
			s.must("rewind", err)
		}
		s.want("rmdir", unix.Rmdir(s.path("d")))
	}},
	{"create and remove seen", func(s *scene) {
		s.mkdir("d")
		var want []string
		for i := range 100 {
			name := fmt.Sprint("f", i)
			s.file("d/"+name, "x")
			if want = append(want, name); i%3 == 0 {
				s.must("unlink", unix.Unlink(s.path("d/"+want[0])))
				want = want[1:]
			}
			s.same("readdir", s.names("d"), want)
		}
	}},
	{"of what was removed", func(s *scene) {
		d := s.open("d", s.opened("d"))
		s.must("rmdir", unix.Rmdir(s.path("d")))
		n, err := unix.Getdents(int(d.Fd()), make([]byte, 4096))
		if n > 0 {
			err = nil // dots may still be there
		}
		if err != nil {
			s.want("getdents", err, unix.ENOENT)
		}
	}},
	{"errnos", func(s *scene) {
		fd, err := s.fd(s.file("f", "x"), unix.O_RDONLY, 0)
		s.must("open", err)
		_, err = unix.Getdents(fd, make([]byte, 4096))
		s.want("getdents of a file", err, unix.ENOTDIR)
		fd, err = s.fd(s.dir, unix.O_RDONLY, 0)
		s.must("open", err)
		_, err = unix.Getdents(fd, make([]byte, 1))
		s.want("getdents into a byte", err, unix.EINVAL)
	}},
}

// opened makes a directory that is to be opened for reading.
func (s *scene) opened(name string) (flags int) {
	s.mkdir(name)
	return os.O_RDONLY
}

// A dirent is an entry as getdents gives it; off is where the next one is.
type dirent struct {
	name string
	ino  uint64
	off  int64
	typ  byte
}

// next returns what one getdents gives, nothing at the end.
func (s *scene) next(d *os.File, size int) []dirent {
	s.Helper()
	buf := make([]byte, size)
	n, err := retry(func() (int, error) { return unix.Getdents(int(d.Fd()), buf) })
	s.must("getdents", err)
	var found []dirent
	for buf = buf[:n]; len(buf) > 0; {
		length := binary.NativeEndian.Uint16(buf[16:])
		name, _, _ := strings.Cut(string(buf[19:length]), "\x00")
		found = append(found, dirent{name, binary.NativeEndian.Uint64(buf), int64(binary.NativeEndian.Uint64(buf[8:])), buf[18]})
		buf = buf[length:]
	}
	return found
}

// read returns what is left of an open directory.
func (s *scene) read(d *os.File) []dirent {
	s.Helper()
	var all []dirent
	for {
		some := s.next(d, 8<<10)
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

func (s *scene) entries(name string) []dirent {
	s.Helper()
	d := s.open(name, os.O_RDONLY)
	defer d.Close()
	return s.read(d)
}

// names returns the names in a directory, without the dots.
func (s *scene) names(name string) []string {
	s.Helper()
	return plain(s.entries(name))
}

func plain(entries []dirent) []string {
	var names []string
	for _, e := range entries {
		if e.name != "." && e.name != ".." {
			names = append(names, e.name)
		}
	}
	return names
}

// same wants the names got to be those of want, each once.
func (s *scene) same(call string, got, want []string) {
	s.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if slices.Equal(got, want) {
		return
	}
	seen := map[string]int{}
	for _, name := range got {
		seen[name]++
	}
	for _, name := range want {
		seen[name]--
	}
	var wrong []string
	for name, n := range seen {
		if n != 0 {
			wrong = append(wrong, fmt.Sprintf("%q %+d", name, n))
		}
	}
	slices.Sort(wrong)
	s.Errorf("%s: %d names, want %d: %s", call, len(got), len(want), short(strings.Join(wrong, ", ")))
}

// fill makes a directory of many empty files and returns their names.
func (s *scene) fill(name string) []string {
	s.Helper()
	s.mkdir(name)
	names := make([]string, s.Profile.entries())
	for i := range names {
		names[i] = fmt.Sprintf("entry-%05d", i)
		s.file(name+"/"+names[i], "")
	}
	return names
}

// seekDir goes back to places in a directory, and wants what follows to be what
// followed.
func seekDir(s *scene) {
	s.fill("d")
	d := s.open("d", os.O_RDONLY)
	all := s.read(d)
	for i := 0; i < len(all)-1; i += max(1, len(all)/40) {
		_, err := d.Seek(all[i].off, 0)
		s.must("seekdir", err)
		if next := s.next(d, 4096); len(next) == 0 || next[0].name != all[i+1].name {
			s.Fatalf("after %s comes %v, want %s", all[i].name, next[:min(1, len(next))], all[i+1].name)
		}
	}
	_, err := d.Seek(all[len(all)/2].off, 0)
	s.must("seekdir", err)
	if rest := s.read(d); len(rest) != len(all)-len(all)/2-1 {
		s.Errorf("from the middle there are %d, want %d", len(rest), len(all)-len(all)/2-1)
	}
}

// changingDir makes and removes names while a directory is read: those that
// stay must come once, no other twice.
func changingDir(s *scene) {
	stay := s.fill("d")
	for i := range 500 {
		s.file(fmt.Sprint("d/goes-", i), "")
	}
	d := s.open("d", os.O_RDONLY)
	seen := map[string]int{}
	for i := 0; ; i++ {
		some := s.next(d, 2048)
		if len(some) == 0 {
			break
		}
		for _, name := range plain(some) {
			seen[name]++
		}
		if i < 500 {
			s.must("unlink", unix.Unlink(s.path(fmt.Sprint("d/goes-", i))))
		}
		s.file(fmt.Sprint("d/comes-", i), "")
	}
	for _, name := range stay {
		if seen[name] != 1 {
			s.Fatalf("%s came %d times", name, seen[name])
		}
	}
	for name, n := range seen {
		if n > 1 {
			s.Errorf("%s came %d times", name, n)
		}
	}
}
