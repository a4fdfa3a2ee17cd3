package watcher

import (
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leasesAt reports whether a lease on the file at path tells who writes it. On
// a network file system it would tell whether the server grants one.
func (d *diskProber) leasesAt(path string, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if at := now(); at.Sub(d.asked) > time.Minute { // numbers of devices are used again
		clear(d.leases)
		d.asked = at
	}
	local, known := d.leases[uint64(st.Dev)]
	if !known {
		local = !remote(path)
		d.leases[uint64(st.Dev)] = local
	}
	return local
}

// openForWriting asks the kernel for a read lease on the regular file at path,
// which it grants only while nobody has the file open for writing. O_NONBLOCK
// matters when the file became a FIFO since it was looked at.
func openForWriting(path string) state {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return gone
	case unix.EWOULDBLOCK: // somebody else's lease
		return busy
	case unix.ELOOP, unix.ENXIO: // a link or a socket now
		return free
	default: // not ours to open
		return unknown
	}
	defer unix.Close(fd)

	// A writer that opens the file now waits until the lease is gone. Raw calls
	// keep the scheduler from giving this goroutine's processor away between
	// the two.
	_, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	switch errno {
	case 0:
		return free
	case unix.EAGAIN:
		return busy
	}
	return unknown // EACCES: another owner and no CAP_LEASE; EINVAL, ENOTSUP: no leases here
}
