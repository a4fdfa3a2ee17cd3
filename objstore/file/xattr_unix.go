//go:build linux || darwin || freebsd || netbsd

package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// setXattr reports false when the file system has no room or no notion of
// extended attributes, so that a sidecar must do.
func setXattr(f *os.File, value []byte) (bool, error) {
	err := unix.Fsetxattr(int(f.Fd()), xattrName, value, 0)
	for _, no := range []error{unix.ENOTSUP, unix.EOPNOTSUPP, unix.EPERM, unix.ENOSPC, unix.E2BIG, unix.ERANGE} {
		if errors.Is(err, no) {
			return false, nil
		}
	}
	return err == nil, err
}

// getXattr returns nil when there is none.
func getXattr(f *os.File) []byte {
	buf := make([]byte, 512) // most stamps fit
	n, err := unix.Fgetxattr(int(f.Fd()), xattrName, buf)
	if err == unix.ERANGE {
		buf = make([]byte, 64<<10) // the most Linux allows
		n, err = unix.Fgetxattr(int(f.Fd()), xattrName, buf)
	}
	if err != nil || n <= 0 {
		return nil
	}
	return buf[:n]
}
