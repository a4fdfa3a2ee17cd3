//go:build unix

package servers

import "syscall"

// Freeze stops the server in its tracks: it answers nothing and closes nothing.
func (p *process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	if p.proc != nil {
		p.proc.Signal(s)
	}
}
