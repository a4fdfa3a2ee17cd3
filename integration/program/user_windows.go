package program

import "syscall"

// runAs needs Unix; elsewhere the process runs as the test's own user.
func runAs(uint32) *syscall.SysProcAttr { return nil }
