//go:build unix

package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// flock takes the lock of an open file, which all processes respect and the
// kernel lets go of when the process dies. With wait false, a lock that
// somebody else holds is an error at once.
func flock(f *os.File, wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

func funlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }
