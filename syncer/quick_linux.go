package syncer

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/manifest"
)

// nameless makes a file without a name in the folder: until it is whole nobody
// sees it, and a crash leaves nothing. It is made where it will stay, near its
// neighbours on the disk. Not every file system has such files.
func nameless(in *folder) (*os.File, error) {
	fd, err := unix.Openat(int(in.dir.Fd()), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), string(in.path)), nil
}

// placeNew fills a nameless file and gives it f's name, where nothing is.
func placeNew(file *os.File, in *folder, f manifest.File, content []byte) (manifest.Stat, error) {
	self := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	if err := dressNew(file, self, f, content); err != nil {
		return manifest.Stat{}, err
	}
	// Only this says, in one step, that nothing stood there.
	if err := unix.Linkat(unix.AT_FDCWD, self, int(in.dir.Fd()), filepath.Base(disk(f.Path)), unix.AT_SYMLINK_FOLLOW); err != nil {
		return manifest.Stat{}, err
	}
	fi, err := file.Stat()
	if err != nil {
		return manifest.Stat{}, nil // it is in place; what it looks like is not known
	}
	return manifest.StatOf(fi), nil
}

// dressNew gives the file, which self names too, its content, mode and time.
func dressNew(file *os.File, self string, f manifest.File, content []byte) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Chmod(f.Mode & fs.ModePerm); err != nil {
		return err
	}
	t := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(f.ModTime().UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, self, t, 0)
}
