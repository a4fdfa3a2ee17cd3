package syncer

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/manifest"
)

// placeNew makes a file where nothing is, by the descriptors of its folder and
// of the shelf. An error leaves nothing behind.
func placeNew(t temp, in *folder, f manifest.File, content []byte) (manifest.Stat, error) {
	from, to := int(t.dir.Fd()), int(in.dir.Fd())
	fd, err := unix.Openat(from, t.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return manifest.Stat{}, err
	}
	file := os.NewFile(uintptr(fd), t.base)
	defer file.Close()
	err = fill(file, from, t.base, f, content)
	if err == nil {
		// Only this says, in one step, that nothing stood there.
		err = unix.Renameat2(from, t.base, to, filepath.Base(disk(f.Path)), unix.RENAME_NOREPLACE)
	}
	if err != nil {
		unix.Unlinkat(from, t.base, 0)
		return manifest.Stat{}, err
	}
	fi, err := file.Stat()
	if err != nil {
		return manifest.Stat{}, nil // it is in place; what it looks like is not known
	}
	return manifest.StatOf(fi), nil
}

// fill gives the file its content, mode and time.
func fill(file *os.File, dir int, name string, f manifest.File, content []byte) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Chmod(f.Mode & fs.ModePerm); err != nil {
		return err
	}
	t := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(f.ModTime().UnixNano())}
	return unix.UtimesNanoAt(dir, name, t, unix.AT_SYMLINK_NOFOLLOW)
}
