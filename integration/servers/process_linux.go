package servers

import "syscall"

// dieWithParent makes the kernel kill the server when the thread that started
// it ends: a test binary that is killed leaves no server behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
