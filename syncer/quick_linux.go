package syncer

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/manifest"
)

// placeNew makes a file where nothing is. Until it is whole it has no name, so
// that nobody sees it and a crash leaves nothing; and it is made where it will
// stay, near its neighbours on the disk. An error leaves nothing behind: a
// file system may have no nameless files, or something stands there.
func placeNew(in *folder, f manifest.File, content []byte) (manifest.Stat, error) {
	dir := int(in.dir.Fd())
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return manifest.Stat{}, err
	}
	file := os.NewFile(uintptr(fd), string(f.Path))
	defer file.Close()
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := fill(file, self, f, content); err != nil {
		return manifest.Stat{}, err
	}
	// Only this says, in one step, that nothing stood there.
	if err := unix.Linkat(unix.AT_FDCWD, self, dir, filepath.Base(disk(f.Path)), unix.AT_SYMLINK_FOLLOW); err != nil {
		return manifest.Stat{}, err
	}
	fi, err := file.Stat()
	if err != nil {
		return manifest.Stat{}, nil // it is in place; what it looks like is not known
	}
	return manifest.StatOf(fi), nil
}

// fill gives the file, which self names too, its content, mode and time.
func fill(file *os.File, self string, f manifest.File, content []byte) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Chmod(f.Mode & fs.ModePerm); err != nil {
		return err
	}
	t := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(f.ModTime().UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, self, t, 0)
}
