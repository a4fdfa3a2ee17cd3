//go:build unix

package syncer

import "syscall"

// errNotDir is what looking below something that is no directory gives,
// errNotEmpty what removing a directory that holds something gives.
const (
	errNotDir   = syscall.ENOTDIR
	errNotEmpty = syscall.ENOTEMPTY
)
