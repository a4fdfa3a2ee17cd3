//go:build linux

package posix

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// A Feature is what not every file system has.
type Feature string

// The features that a Profile can name.
const (
	HardLinks     Feature = "link"
	Symlinks      Feature = "symlink"
	FIFOs         Feature = "mknod of a FIFO"
	Sockets       Feature = "mknod of a socket"
	Devices       Feature = "mknod of a device"
	ExchangeNames Feature = "renameat2 RENAME_EXCHANGE"
	Whiteouts     Feature = "renameat2 RENAME_WHITEOUT"
	TmpFiles      Feature = "open O_TMPFILE"
	DirectIO      Feature = "open O_DIRECT"
	Chown         Feature = "chown to somebody else"
	ExecBit       Feature = "access X_OK without a bit" // its refusal is what POSIX wants, for root too
	SpecialBits   Feature = "chmod of setuid, setgid and sticky"
	AccessTimes   Feature = "utimensat of atime"
	DirTimes      Feature = "mtime of a directory that changes"
	Xattrs        Feature = "setxattr user.*"
	Allocate      Feature = "fallocate"
	PunchHole     Feature = "fallocate PUNCH_HOLE"
	ZeroRange     Feature = "fallocate ZERO_RANGE"
	NotUTF8       Feature = "name that is not UTF-8"
	ControlNames  Feature = "name with control characters"
)

// A Profile is what a file system promises.
type Profile struct {
	Name string
	// Refuses has the errno of each feature that is refused.
	Refuses map[Feature]syscall.Errno
	// Ignores has each feature whose call succeeds and changes nothing.
	Ignores map[Feature]bool
	// Entries is how many names a directory of the readdir checks has; 0 is 3,000.
	Entries int
}

// Tmpfs is what tmpfs promises.
func Tmpfs() Profile {
	p := Local()
	p.Name = "tmpfs"
	p.Refuses[ZeroRange] = unix.EOPNOTSUPP
	return p
}

// Local is what ext4 promises, to root.
func Local() Profile {
	return Profile{Name: "ext4", Refuses: map[Feature]syscall.Errno{ExecBit: unix.EACCES}}
}

func (p Profile) entries() int {
	if p.Entries == 0 {
		return 3000
	}
	return p.Entries
}
