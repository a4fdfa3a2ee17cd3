//go:build linux

package posix

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// asChild, in the environment, makes a test's binary do what it names instead
// of testing. What it needs comes on standard input.
const asChild = "SKYAGENT_POSIX_CHILD"

func init() {
	run, ok := map[string]func() error{"locker": lockerMain, "registers": registersMain, "pong": pongMain, "counter": counterMain}[os.Getenv(asChild)]
	if !ok {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A child is the test's own binary at another job.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a child; it is killed at the end of the test, should it live.
func start(t testing.TB, job string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command("/proc/self/exe", args...)}
	c.cmd.Env = append(os.Environ(), asChild+"="+job)
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReaderSize(out, 1<<20)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

// wait closes the child's input and waits for its good end.
func (c *child) wait() error {
	c.in.Close()
	if _, err := io.Copy(io.Discard, c.out); err != nil {
		return fmt.Errorf("read from a child: %w", err)
	}
	return c.cmd.Wait()
}
