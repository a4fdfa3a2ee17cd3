//go:build unix

package program

import "syscall"

// runAs makes a process run as user uid, in the group of the same number.
func runAs(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}
