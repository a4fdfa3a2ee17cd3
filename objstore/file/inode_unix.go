//go:build unix

package file

import (
	"io/fs"
	"syscall"
)

// inode returns the file's number on its file system, 0 when it is unknown.
func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
