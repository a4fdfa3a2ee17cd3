package mounter

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountedAt returns the type of the file system that is mounted on dir, and ""
// when none is. It never touches the mount, which may hang.
func mountedAt(dir string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close()
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir))
	}
	kind := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		place, rest, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(place)
		if len(fields) > 4 && unescape(fields[4]) == dir {
			kind, _, _ = strings.Cut(rest, " ") // the last one lies on top
		}
	}
	return kind, lines.Err()
}

// unescape undoes \040 and the like of the mount table.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// dead reports whether dir is the mount point of a FUSE process that is gone.
func dead(dir string) bool {
	var st unix.Stat_t
	return errors.Is(unix.Stat(dir, &st), unix.ENOTCONN)
}

// unmount unmounts, as root or as the user who mounted. A mount in use stays.
func unmount(dir string) error {
	err := unix.Unmount(dir, 0)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	out, err := exec.Command("fusermount3", "-u", "--", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fusermount3 -u: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func setxattr(path, name string, value []byte) error { return unix.Setxattr(path, name, value, 0) }

// ownGroup keeps a Ctrl-C at the terminal from the mounter: it is told to end
// when everything else has.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
