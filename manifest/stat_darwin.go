package manifest

import (
	"io/fs"
	"os"
	"syscall"
)

// StatOf returns the Stat in fi, which came from os.Lstat or os.File.Stat.
func StatOf(fi fs.FileInfo) Stat {
	s := Stat{Size: fi.Size(), MTime: fi.ModTime().UnixNano(), Mode: fi.Mode()}
	s.CTime = s.MTime
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.Dev, s.Ino = uint64(sys.Dev), sys.Ino
		s.CTime = sys.Ctimespec.Nano()
	}
	return s
}

// statAt looks at an entry of the open directory d.
func statAt(_ *os.File, entry fs.DirEntry) (Stat, error) {
	fi, err := entry.Info()
	if err != nil {
		return Stat{}, err
	}
	return StatOf(fi), nil
}
