//go:build !unix

package watcher

import "os"

// identify returns what is at path, without following a symbolic link. There
// are no inode numbers here: all directories have the same identity.
func identify(path string) (identity, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return identity{}, err
	}
	return identity{dir: info.IsDir()}, nil
}
