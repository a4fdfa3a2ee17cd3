package mount

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxDescriptors bounds how many descriptors of a process are looked at.
const maxDescriptors = 4096

// holds reports whether process pid has the file with number ino of the mount
// open. A flush comes with every close of every copy of a descriptor (a shell's
// dup2, a child's exit), and only the last of them means that the writing is
// over. What cannot be found out counts as no.
func holds(pid uint32, ino uint64) bool {
	if pid == 0 {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	infos, err := os.ReadDir(dir)
	if err != nil || len(infos) > maxDescriptors {
		return false
	}
	want := []byte("ino:\t" + strconv.FormatUint(ino, 10) + "\n")
	for _, info := range infos {
		b, err := os.ReadFile(filepath.Join(dir, info.Name()))
		if err == nil && bytes.Contains(b, want) && writable(b) {
			return true
		}
	}
	return false
}

// writable reports whether a descriptor with that fdinfo may be written to.
func writable(info []byte) bool {
	_, rest, ok := bytes.Cut(info, []byte("flags:\t"))
	if !ok {
		return false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	flags, err := strconv.ParseUint(string(line), 8, 64)
	return err == nil && flags&3 != uint64(os.O_RDONLY)
}

// killed reports whether thread pid has been sent a SIGKILL, or is gone.
func killed(pid uint32) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return pid != 0
	}
	_, rest, _ := bytes.Cut(b, []byte("SigPnd:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pending, err := strconv.ParseUint(string(line), 16, 64)
	return err == nil && pending&(1<<(syscall.SIGKILL-1)) != 0
}
