//go:build unix

package servers

import "syscall"

// Freeze stops the server in its tracks: it answers nothing and closes nothing.
func (p *process) Freeze() { p.proc.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *process) Thaw() { p.proc.Signal(syscall.SIGCONT) }
