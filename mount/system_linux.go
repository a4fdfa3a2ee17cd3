package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fusermountAway unmounts what a user mounted who may not unmount by himself;
// err is why it could not be done directly.
func fusermountAway(dir string, err error) error {
	if e := exec.Command("fusermount3", "-u", "-z", dir).Run(); e != nil {
		return err
	}
	return nil
}

// hasDevice returns an error when the kernel's FUSE device is not at path.
func hasDevice(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	return nil
}

// mountedAt reports whether a FUSE file system is mounted at dir.
func mountedAt(dir string) bool {
	var fs unix.Statfs_t
	var at, above unix.Stat_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.FUSE_SUPER_MAGIC &&
		unix.Stat(dir, &at) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && at.Dev != above.Dev
}

// readahead is what the kernel reads ahead of a reader, in KiB. Its default of
// 128 KiB makes eight times the requests.
const readahead = 1024

// tuneReadahead raises the kernel's read-ahead, where we may.
func tuneReadahead(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	_ = os.WriteFile(name, fmt.Appendf(nil, "%d", readahead), 0)
}
