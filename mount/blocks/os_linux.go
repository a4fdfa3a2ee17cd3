package blocks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// handedOver reports whether f is open for reading only and nobody has its file
// open for writing: a lease is granted only then.
func handedOver(f *os.File) bool {
	flags, err := control(f, func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0) })
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
		return false
	}
	_, err = control(f, func(fd int) (int, error) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			return 0, err
		}
		return unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	})
	return err == nil
}

// link makes name another name of f's file.
func link(f *os.File, name string) error {
	_, err := control(f, func(fd int) (int, error) {
		return 0, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	})
	return err
}

// clone lets to share the blocks of f.
func clone(to, f *os.File) error {
	_, err := control(to, func(dst int) (int, error) {
		return control(f, func(src int) (int, error) { return 0, unix.IoctlFileClone(dst, src) })
	})
	return err
}

// control calls do with f's descriptor, which stays open meanwhile.
func control(f *os.File, do func(fd int) (int, error)) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if bad := raw.Control(func(fd uintptr) { n, err = do(int(fd)) }); bad != nil {
		return 0, bad
	}
	return n, err
}

// copyRange copies the first size bytes of f inside the kernel.
func copyRange(to, f *os.File, size int64) error {
	var from int64
	for from < size {
		n, err := control(to, func(dst int) (int, error) {
			return control(f, func(src int) (int, error) {
				return unix.CopyFileRange(src, &from, dst, nil, int(min(size-from, 1<<30)), 0)
			})
		})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 0 && from == 0 && err != nil {
			return copyBytes(to, f, size) // EXDEV, EINVAL and others: not between these
		}
		if err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("copied %d of %d bytes", from, size))
		}
	}
	return nil
}

// isFull reports whether err says that a disk has no room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// allocated returns how many bytes a file takes on disk.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks*512 + fileCost/2
	}
	return info.Size() + fileCost
}
