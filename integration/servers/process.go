package servers

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	startDeadline = 20 * time.Second // machines that build and test at once are slow
	stopDeadline  = 5 * time.Second  // from the polite signal to the other one
)

// A process is one server that can be stopped and started again on the same
// address and directory. Its methods are for one goroutine at a time.
type process struct {
	path  string
	args  []string
	env   []string
	addr  string             // host:port it listens on
	ready func(string) error // asks the address whether the server serves

	proc *os.Process
	done chan struct{} // closed by the goroutine that waits for proc
	out  output
}

// Start starts the server again after Stop or Kill.
func (p *process) Start(t testing.TB) {
	t.Helper()
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop asks the server to end, and kills it when it does not.
func (p *process) Stop() {
	if p.proc == nil {
		return
	}
	if runtime.GOOS == "windows" || p.proc.Signal(os.Interrupt) != nil {
		p.Kill()
		return
	}
	select {
	case <-p.done:
		p.proc = nil
	case <-time.After(stopDeadline):
		p.Kill()
	}
}

// Kill ends the server as a crash would.
func (p *process) Kill() {
	if p.proc == nil {
		return
	}
	p.proc.Kill()
	<-p.done
	p.proc = nil
}

func (p *process) start() error {
	if p.proc != nil {
		return fmt.Errorf("server %s runs already", p.path)
	}
	started := make(chan error)
	p.done = make(chan struct{})
	go p.run(started)
	if err := <-started; err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := p.await(); err != nil {
		p.Kill()
		return fmt.Errorf("server %s on %s: %w\n%s", p.path, p.addr, err, p.out.String())
	}
	return nil
}

// run starts the server and waits for its end. It stays on one thread, since
// dieWithParent is about the thread and not the process.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, &p.out, &p.out
	cmd.SysProcAttr = dieWithParent()
	err := cmd.Start()
	p.proc = cmd.Process
	started <- err
	if err == nil {
		cmd.Wait()
	}
}

// await asks every few milliseconds until the server serves.
func (p *process) await() error {
	deadline := time.After(startDeadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ready(p.addr)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it ended at once")
		case <-deadline:
			return fmt.Errorf("it does not serve after %v: %w", startDeadline, err)
		case <-tick.C:
		}
	}
}

// freeAddr returns an address of this machine that nobody listens on. Another
// process may take it before the server does; launch then tries again.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// launch starts what configure describes for an address, and has it stopped
// when the test ends.
func launch(t testing.TB, configure func(addr string) *process) *process {
	t.Helper()
	var err error
	for range 3 {
		var addr string
		if addr, err = freeAddr(); err != nil {
			break
		}
		p := configure(addr)
		if err = p.start(); err == nil {
			t.Cleanup(p.Stop)
			return p
		}
	}
	t.Fatal(err)
	return nil
}

// environ is this process's environment without what would configure a server
// or lead a client elsewhere.
func environ(add ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "VGW_") && !strings.HasPrefix(kv, "NATS_") &&
			!strings.HasPrefix(kv, "MINIO_") {
			env = append(env, kv)
		}
	}
	return append(env, add...)
}

// An output keeps the first 64 KiB a server says, for the message when it fails.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := 64<<10 - o.buf.Len(); room > 0 {
		o.buf.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
