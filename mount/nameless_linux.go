package mount

import (
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// nameless returns a new file in dir that goes with its descriptor.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	file, err := os.CreateTemp(dir, "stage-")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// readOnly opens file anew for reading only, in place of what it was.
func readOnly(file **os.File) error {
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", (*file).Fd()))
	if err != nil {
		return err
	}
	(*file).Close()
	*file = again
	return nil
}

// linkFile gives file a name, and returns the file that has it: a nameless one
// gets it, one that has lost its name is copied.
func linkFile(file *os.File, name string) (*os.File, error) {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err == nil {
		return file, nil
	}
	to, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(to, io.NewSectionReader(file, 0, math.MaxInt64)); err != nil {
		to.Close()
		return nil, err
	}
	return to, file.Close()
}
