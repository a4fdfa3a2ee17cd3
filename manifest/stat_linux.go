package manifest

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// StatOf returns the Stat in fi, which came from os.Lstat or os.File.Stat.
func StatOf(fi fs.FileInfo) Stat {
	s := Stat{Size: fi.Size(), MTime: fi.ModTime().UnixNano(), Mode: fi.Mode()}
	s.CTime = s.MTime
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.Dev, s.Ino = uint64(sys.Dev), sys.Ino
		s.CTime = sys.Ctim.Nano()
	}
	return s
}

// statAt looks at an entry of the open directory d. By descriptor and name it
// costs the kernel no walk from the root, and us no allocation.
func statAt(d *os.File, entry fs.DirEntry) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), entry.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Stat{}, err
	}
	return Stat{
		Dev: st.Dev, Ino: st.Ino, Size: st.Size,
		MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(), Mode: modeOf(st.Mode),
	}, nil
}

// modeOf translates what we need of a st_mode: the type, and the permissions.
func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}
