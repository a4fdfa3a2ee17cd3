//go:build !linux

package mounter

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

func mountedAt(string) (string, error) {
	return "", fmt.Errorf("read the mount table: %w", errors.ErrUnsupported)
}

func dead(string) bool { return false }

func unmount(string) error { return errors.ErrUnsupported }

func setxattr(string, string, []byte) error { return errors.ErrUnsupported }

func ownGroup() *syscall.SysProcAttr { return nil }

func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }
