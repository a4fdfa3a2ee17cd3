//go:build !linux && !darwin

package manifest

import (
	"io/fs"
	"os"
)

// StatOf returns the Stat in fi, which came from os.Lstat or os.File.Stat.
// This system shows no inode and no change time: size and time must do.
func StatOf(fi fs.FileInfo) Stat {
	mtime := fi.ModTime().UnixNano()
	return Stat{Size: fi.Size(), MTime: mtime, CTime: mtime, Mode: fi.Mode()}
}

// statAt looks at an entry of the open directory d.
func statAt(_ *os.File, entry fs.DirEntry) (Stat, error) {
	fi, err := entry.Info()
	if err != nil {
		return Stat{}, err
	}
	return StatOf(fi), nil
}
