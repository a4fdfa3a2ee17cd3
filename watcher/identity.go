package watcher

import "path/filepath"

// An identity tells a directory from every other one, at one time.
type identity struct {
	inode
	mount uint64 // of the mount it was reached through; 0 where the system does not say
	dir   bool   // it is a directory; false for everything else, symbolic links included
}

// An inode names a directory however it is reached, as inotify does. It is zero
// where the system has no such numbers.
type inode struct{ dev, ino uint64 }

// identifyRoot returns where root really is and what is there. A root that is a
// symbolic link is followed every time, so that changing the link is noticed.
func identifyRoot(root string) (real string, id identity, err error) {
	if real, err = filepath.EvalSymlinks(root); err != nil {
		return "", identity{}, err
	}
	id, err = identify(real)
	return real, id, err
}
