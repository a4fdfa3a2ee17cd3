package mounter

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A child is a mounter that this package started.
type child struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when the process has ended and err is set
	err  error
}

func (m *Mount) start() (*child, error) {
	name, args, env := m.driver.command()
	cmd := exec.Command(cmp.Or(m.cfg.Program, name), append(args, m.cfg.Args...)...)
	cmd.Env = append(append(os.Environ(), env...), m.cfg.Env...)
	c := &child{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start mounter: %w", err)
	}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// failure says how a child ended that should not have.
func (c *child) failure() error {
	if c.err == nil {
		return fmt.Errorf("mounter %s ended\n%s", c.cmd.Path, c.out)
	}
	return fmt.Errorf("mounter %s: %w\n%s", c.cmd.Path, c.err, c.out)
}

// stop asks the child to unmount and end, and kills it when it does not.
func (c *child) stop() {
	if err := terminate(c.cmd.Process); err == nil {
		select {
		case <-c.done:
			return
		case <-time.After(stopDeadline):
		}
	}
	c.cmd.Process.Kill()
	<-c.done
}

// A tail keeps the last of what a child says, for the message when it fails.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	t.buf = t.buf[max(0, len(t.buf)-tailSize):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
