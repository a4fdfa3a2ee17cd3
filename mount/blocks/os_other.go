//go:build !linux

package blocks

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func handedOver(*os.File) bool { return false }

func link(*os.File, string) error { return errors.ErrUnsupported }

func clone(_, _ *os.File) error { return errors.ErrUnsupported }

func copyRange(to, f *os.File, size int64) error { return copyBytes(to, f, size) }

// isFull reports whether err says that a disk has no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// allocated returns how many bytes a file takes on disk, at most.
func allocated(info fs.FileInfo) int64 { return info.Size() + fileCost }
