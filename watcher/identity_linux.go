package watcher

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// identify returns what is at path, without following a symbolic link. The
// mount is part of it because a device that was unmounted and mounted again has
// the same numbers, and all its watches are gone.
func identify(path string) (identity, error) {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	const mask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_MNT_ID_UNIQUE
	var st unix.Statx_t
	for {
		err := unix.Statx(unix.AT_FDCWD, path, flags, mask, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return identity{}, &fs.PathError{Op: "statx", Path: path, Err: err}
		}
	}
	id := identity{dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	id.dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	id.ino = st.Ino
	if st.Mask&(unix.STATX_MNT_ID|unix.STATX_MNT_ID_UNIQUE) != 0 {
		id.mount = st.Mnt_id
	}
	return id, nil
}
