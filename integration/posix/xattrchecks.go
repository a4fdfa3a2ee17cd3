//go:build linux

package posix

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var xattrChecks = []check{
	{"set and get", func(s *scene) { s.attributes(s.file("f", "x")) }},
	{"of a directory", func(s *scene) { s.attributes(s.mkdir("d")) }},
	{"errnos", func(s *scene) {
		path := s.file("f", "x")
		if !s.works(Xattrs, unix.Setxattr(path, "user.a", []byte("value"), 0)) {
			return
		}
		s.want("XATTR_CREATE again", unix.Setxattr(path, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
		s.want("XATTR_REPLACE of none", unix.Setxattr(path, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA)
		s.want("remove of none", unix.Removexattr(path, "user.b"), unix.ENODATA)
		_, err := unix.Getxattr(path, "user.b", nil)
		s.want("get of none", err, unix.ENODATA)
		_, err = unix.Getxattr(path, "user.a", make([]byte, 2))
		s.want("get into little", err, unix.ERANGE)
		_, err = unix.Listxattr(path, make([]byte, 2))
		s.want("list into little", err, unix.ERANGE)
		s.want("no namespace", unix.Setxattr(path, "nonamespace", []byte("x"), 0), unix.EOPNOTSUPP)
		s.want("long name", unix.Setxattr(path, "user."+strings.Repeat("n", 251), []byte("x"), 0), unix.ERANGE)
		s.want("large value", unix.Setxattr(path, "user.large", make([]byte, 64<<10+1), 0), unix.E2BIG)
		_, err = unix.Getxattr(s.path("none"), "user.a", nil)
		s.want("get of no file", err, unix.ENOENT)
	}},
	{"stay", func(s *scene) {
		path := s.file("f", "x")
		if !s.works(Xattrs, unix.Setxattr(path, "user.a", []byte("value"), 0)) {
			return
		}
		s.must("append", appendTo(path, "more"))
		s.attribute(path, "user.a", "value")
		s.must("rename", unix.Rename(path, s.path("g")))
		s.attribute(s.path("g"), "user.a", "value")
		s.must("unlink", unix.Unlink(s.path("g")))
		s.file("g", "new")
		_, err := unix.Getxattr(s.path("g"), "user.a", nil)
		s.want("get of a new file", err, unix.ENODATA)
	}},
	{"of a descriptor", func(s *scene) {
		fd, err := s.fd(s.file("f", "x"), unix.O_RDWR, 0)
		s.must("open", err)
		if s.works(Xattrs, unix.Fsetxattr(fd, "user.a", []byte("value"), 0)) {
			b := make([]byte, 10)
			n, err := unix.Fgetxattr(fd, "user.a", b)
			if err != nil || string(b[:n]) != "value" {
				s.Errorf("fgetxattr: %q, %v", b[:max(0, n)], err)
			}
		}
	}},
}

// attributes sets, reads, lists, replaces and removes.
func (s *scene) attributes(path string) {
	if !s.works(Xattrs, unix.Setxattr(path, "user.a", []byte("value"), unix.XATTR_CREATE)) {
		_, err := unix.Getxattr(path, "user.a", nil)
		s.want("getxattr", err, unix.ENODATA, s.Refuses[Xattrs])
		return
	}
	s.attribute(path, "user.a", "value")
	s.want("replace", unix.Setxattr(path, "user.a", []byte("other value"), unix.XATTR_REPLACE))
	s.attribute(path, "user.a", "other value")
	s.want("empty value", unix.Setxattr(path, "user.empty", nil, 0))
	s.attribute(path, "user.empty", "")
	binary := noise(900)
	s.want("binary value", unix.Setxattr(path, "user.ä", []byte(binary), 0))
	s.attribute(path, "user.ä", binary)
	s.listed(path, "user.a", "user.empty", "user.ä")
	s.want("remove", unix.Removexattr(path, "user.a"))
	s.listed(path, "user.empty", "user.ä")
	size, err := unix.Getxattr(path, "user.ä", nil)
	if size != 900 || err != nil {
		s.Errorf("the size is %d, %v", size, err)
	}
}

func (s *scene) attribute(path, name, want string) {
	s.Helper()
	b := make([]byte, 2000)
	n, err := unix.Getxattr(path, name, b)
	if err != nil || string(b[:n]) != want {
		s.Errorf("%s is %q, %v, want %q", name, short(string(b[:max(0, n)])), err, short(want))
	}
}

// listed wants a file's user.* attributes to have these names.
func (s *scene) listed(path string, want ...string) {
	s.Helper()
	b := make([]byte, 10_000)
	n, err := unix.Listxattr(path, b)
	s.must("listxattr", err)
	var got []string
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			got = append(got, name)
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		s.Errorf("listed are %q, want %q", got, want)
	}
}
