//go:build linux

package posix

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var dirChecks = []check{
	{"mkdir", func(s *scene) {
		s.file("file", "x")
		s.mkdir("dir")
		s.errnos("mkdir", func(path string) error { return unix.Mkdir(path, 0o755) }, []answer{
			{"new", 0}, {"new", unix.EEXIST}, {"new/below", 0}, {"file", unix.EEXIST}, {"dir", unix.EEXIST}, {"dir/.", unix.EEXIST},
			{"none/new", unix.ENOENT}, {"file/new", unix.ENOTDIR}, {"slash/", 0}, {"slash//", unix.EEXIST}, {"file/", unix.EEXIST}, {"", unix.EEXIST},
		})
	}},
	{"modes of new directories", func(s *scene) {
		for _, mode := range []uint32{0o755, 0o700, 0o777} {
			for _, mask := range []int{0, 0o22, 0o77} {
				name := fmt.Sprintf("d%o-%o", mode, mask)
				umask(mask, func() { s.must("mkdir", unix.Mkdir(s.path(name), mode)) })
				if got, want := s.stat(s.path(name)).Mode, unix.S_IFDIR|mode&^uint32(mask); got != want {
					s.Errorf("mode %o with umask %o is %o, want %o", mode, mask, got, want)
				}
			}
		}
	}},
	{"rmdir", func(s *scene) {
		s.file("file", "x")
		s.mkdir("full/below")
		s.mkdir("slash")
		s.errnos("rmdir", unix.Rmdir, []answer{
			{"full", unix.ENOTEMPTY}, {"full/below", 0}, {"full", 0}, {"full", unix.ENOENT}, {"none", unix.ENOENT}, {"file", unix.ENOTDIR},
			{"file/none", unix.ENOTDIR}, {"none/none", unix.ENOENT}, {"slash/.", unix.EINVAL}, {"slash/", 0},
		})
	}},
	{"rmdir of what was emptied", func(s *scene) {
		s.mkdir("d")
		for i := range 20 {
			s.file(fmt.Sprint("d/f", i), "x")
		}
		for i := range 20 {
			s.want("rmdir", unix.Rmdir(s.path("d")), unix.ENOTEMPTY)
			s.must("unlink", unix.Unlink(s.path(fmt.Sprint("d/f", i))))
		}
		s.want("rmdir", unix.Rmdir(s.path("d")))
		s.exists(s.path("d"), false)
		s.want("mkdir again", unix.Mkdir(s.path("d"), 0o755))
		if names := s.names("d"); len(names) != 0 {
			s.Errorf("the new directory has %v", names)
		}
	}},
	{"new in what was removed", func(s *scene) {
		fd, err := s.fd(s.mkdir("d"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		s.must("open d", err)
		s.must("rmdir", unix.Rmdir(s.path("d")))
		_, err = unix.Openat(fd, "f", unix.O_CREAT|unix.O_RDWR, 0o644)
		s.want("create in it", err, unix.ENOENT)
		s.want("mkdir in it", unix.Mkdirat(fd, "e", 0o755), unix.ENOENT)
	}},
	{"deep", func(s *scene) {
		path := strings.TrimSuffix(strings.Repeat("deep/", 60), "/")
		s.mkdir(path)
		s.holds(s.file(path+"/f", "below"), "below")
	}},
	{"implicit parents stay", func(s *scene) {
		s.mkdir("d")
		s.must("unlink", unix.Unlink(s.file("d/f", "x")))
		s.exists(s.path("d"), true)
	}},
}

// An answer is what a call on a path must say; 0 is success.
type answer struct {
	path  string
	errno syscall.Errno
}

// errnos makes the same call on many paths, in order.
func (s *scene) errnos(call string, do func(path string) error, answers []answer) {
	s.Helper()
	for _, a := range answers {
		s.want(call+" "+a.path, do(s.path(a.path)), a.errno)
	}
}

var nameChecks = []check{
	{"length", longNames},
	{"odd names", func(s *scene) {
		s.mkdir("d")
		names := []string{" ", "a b", "-rf", "*", "?", "a\\b", "a:b", "a\"b", "a'b", "a%2Fb", "%", "#", "&", "a+b", "~", "...", ".hidden", "trailing.", "trailing ",
			"<x>", "|", "$HOME", "ä", "a\u0308", "日本語", "🦊", "A", "a", "con", "x.skyagent-conflict"}
		for _, name := range names {
			s.holds(s.file("d/"+name, name), name)
		}
		s.same("readdir", s.names("d"), names)
	}},
	{"control characters", func(s *scene) {
		for _, name := range []string{"new\nline", "tab\t", "\x01", "\x7f"} {
			_, err := s.fd(s.path(name), unix.O_CREAT|unix.O_RDWR, 0o644)
			if s.works(ControlNames, err) {
				s.same("readdir", s.names("."), []string{name})
				s.want("unlink", unix.Unlink(s.path(name)))
			}
		}
	}},
	{"not UTF-8", func(s *scene) {
		_, err := s.fd(s.path("\xff\xfe"), unix.O_CREAT|unix.O_RDWR, 0o644)
		if s.works(NotUTF8, err) {
			s.same("readdir", s.names("."), []string{"\xff\xfe"})
		}
		s.want("mkdir", unix.Mkdir(s.path("d\xff"), 0o755), s.Refuses[NotUTF8])
		s.want("rename", unix.Rename(s.file("f", "x"), s.path("f\xff")), s.Refuses[NotUTF8])
	}},
	{"dots", func(s *scene) {
		d := s.stat(s.mkdir("d"))
		s.file("d/f", "x")
		for _, path := range []string{"d/.", "d/../d", "./d", "d/./../d/."} {
			if st := s.stat(s.path(path)); st.Ino != d.Ino || st.Dev != d.Dev {
				s.Errorf("%s is not d", path)
			}
		}
		if up, here := s.stat(s.path("d/..")), s.stat(s.dir); up.Ino != here.Ino {
			s.Errorf("d/.. has inode %d, want %d", up.Ino, here.Ino)
		}
		s.want("rename of .", unix.Rename(s.path("d/."), s.path("e")), unix.EBUSY, unix.EINVAL)
		s.want("rename of ..", unix.Rename(s.path("d/.."), s.path("e")), unix.EBUSY, unix.EINVAL)
		s.want("unlink of .", unix.Unlink(s.path("d/.")), unix.EINVAL, unix.EISDIR, unix.EPERM)
	}},
	{"trailing slashes", func(s *scene) {
		s.file("f", "x")
		s.mkdir("d")
		var st unix.Stat_t
		s.want("stat f/", unix.Stat(s.path("f/"), &st), unix.ENOTDIR)
		s.want("stat d//", unix.Stat(s.path("d//"), &st))
		s.want("unlink f/", unix.Unlink(s.path("f/")), unix.ENOTDIR)
		s.want("unlink d/", unix.Unlink(s.path("d/")), unix.EISDIR)
		_, err := s.fd(s.path("f/"), unix.O_RDONLY, 0)
		s.want("open f/", err, unix.ENOTDIR)
		_, err = s.fd(s.path("new/"), unix.O_RDWR|unix.O_CREAT, 0o644)
		s.want("create new/", err, unix.EISDIR)
		s.want("rename f to g/", unix.Rename(s.path("f"), s.path("g/")), unix.ENOTDIR)
		s.want("rename f/ to g", unix.Rename(s.path("f/"), s.path("g")), unix.ENOTDIR)
		s.want("rename d/ to e/", unix.Rename(s.path("d/"), s.path("e/")))
	}},
	{"stat", func(s *scene) {
		s.file("f", "x")
		var st unix.Stat_t
		s.errnos("stat", func(path string) error { return unix.Stat(path, &st) }, []answer{
			{"f", 0}, {"none", unix.ENOENT}, {"none/f", unix.ENOENT}, {"f/none", unix.ENOTDIR}, {".", 0},
		})
		if st := s.stat(s.path("f")); st.Mode != unix.S_IFREG|0o644 || st.Nlink != 1 || st.Size != 1 || st.Ino == 0 {
			s.Errorf("%+v", st)
		}
		if st := s.stat(s.dir); st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Nlink < 1 {
			s.Errorf("%+v", st)
		}
	}},
	{"a name that comes", func(s *scene) {
		for i := range 50 { // a name that was looked up and not found is found once it is there
			name := s.path(fmt.Sprint("f", i))
			s.exists(name, false)
			s.file(fmt.Sprint("f", i), "x")
			s.exists(name, true)
			s.must("unlink", unix.Unlink(name))
			s.exists(name, false)
		}
	}},
}

func longNames(s *scene) {
	long, longer := strings.Repeat("n", 255), strings.Repeat("n", 256)
	s.holds(s.file(long, "x"), "x")
	s.same("readdir", s.names("."), []string{long})
	var st unix.Stat_t
	_, err := s.fd(s.path(longer), unix.O_CREAT|unix.O_RDWR, 0o644)
	s.want("create 256", err, unix.ENAMETOOLONG)
	s.want("stat 256", unix.Stat(s.path(longer), &st), unix.ENAMETOOLONG)
	s.want("mkdir 256", unix.Mkdir(s.path(longer), 0o755), unix.ENAMETOOLONG)
	s.want("rmdir 256", unix.Rmdir(s.path(longer)), unix.ENAMETOOLONG)
	s.want("unlink 256", unix.Unlink(s.path(longer)), unix.ENAMETOOLONG)
	s.want("rename to 256", unix.Rename(s.path(long), s.path(longer)), unix.ENAMETOOLONG)
	s.want("stat of 4,096", unix.Stat(s.path(strings.Repeat("d/", 2048)), &st), unix.ENAMETOOLONG)
	wide := strings.Repeat("ä", 127) // 254 bytes
	s.holds(s.file(wide, "x"), "x")
	s.must("mkdir 255", unix.Mkdir(s.path("d"+long[1:]), 0o755))
	s.must("rename of 255", unix.Rename(s.path(long), s.path("d"+long[1:]+"/"+long)))
}
