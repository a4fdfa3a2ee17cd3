package manifest

import (
	"io/fs"
	"syscall"
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
