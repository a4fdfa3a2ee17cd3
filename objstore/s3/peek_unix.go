//go:build unix

package s3

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// canPeek says whether quiet can know.
const canPeek = true

// quiet reports whether a connection is open and has nothing to say.
func quiet(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = err == unix.EAGAIN
	})
	return silent && err == nil
}
