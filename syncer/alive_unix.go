//go:build unix

package syncer

import (
	"errors"
	"syscall"
)

// alive reports whether a process of this machine has the id pid.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
