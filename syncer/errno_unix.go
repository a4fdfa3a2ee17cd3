//go:build unix

package syncer

import "syscall"

// errNotDir is what looking below something that is no directory gives.
const errNotDir = syscall.ENOTDIR
