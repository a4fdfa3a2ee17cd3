//go:build unix

package manifest

import "syscall"

const openNoWait = syscall.O_NONBLOCK
