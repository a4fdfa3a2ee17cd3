package syncer

import (
	"io/fs"
	"syscall"
)

var (
	errNotDir   = fs.ErrNotExist
	errNotEmpty = syscall.Errno(145) // ERROR_DIR_NOT_EMPTY
)
