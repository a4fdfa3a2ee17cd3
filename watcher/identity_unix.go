//go:build unix && !linux

package watcher

import (
	"os"
	"syscall"
)

// identify returns what is at path, without following a symbolic link.
func identify(path string) (identity, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return identity{}, err
	}
	id := identity{dir: info.IsDir()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(st.Dev), uint64(st.Ino)
	}
	return id, nil
}
