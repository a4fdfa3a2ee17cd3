// Package program runs the built skyagent for tests and benchmarks, as a user
// would: by its command line, its output and its signals.
//
// It promises that the binary is the one of this checkout, built once for every
// test process, that every process it starts is gone when the test is, and that
// a secret of its environment in what it says fails the test. Else it
// knows nothing of what skyagent does.
package program

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for something that must happen.
const Patience = 60 * time.Second

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "skyagent-test-")
	if err != nil {
		return "", err
	}
	// Other users run it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "skyagent")
	cmd := exec.Command("go", "build", "-tags", "disable_grpc_modules", "-o", binary, "github.com/skyagent/skyagent/cmd/skyagent")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build skyagent: %w\n%s", err, out)
	}
	return binary, nil
})

// Short skips a test that runs the program when -short is given.
func Short(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: runs the program")
	}
}

// Binary returns the path of the built program.
func Binary(t testing.TB) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// A Home is one machine as skyagent sees it: a place for state and an environment.
type Home struct {
	Dir string
	Env []string // added to the test's own environment
	// User, when not 0, is the user id that the program runs as, with the same
	// group id. Only root can ask for that.
	User uint32
}

// NewHome returns an empty home.
func NewHome(t testing.TB) *Home {
	dir := t.TempDir()
	return &Home{Dir: dir, Env: []string{"SKYAGENT_HOME=" + dir}}
}

// Command returns the command line, not started.
func (h *Home) Command(t testing.TB, args ...string) *exec.Cmd {
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = append(os.Environ(), h.Env...)
	if h.User != 0 {
		cmd.SysProcAttr = runAs(h.User)
	}
	return cmd
}

// A Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Last returns the last line of standard output, decoded as a JSON object.
func (r Result) Last(t testing.TB) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	var v map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		t.Fatalf("last line %q: %v\nstderr: %s", lines[len(lines)-1], err, r.Stderr)
	}
	return v
}

// Run runs a command to its end.
func (h *Home) Run(t testing.TB, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.Command(t, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("skyagent %s: %v", strings.Join(args, " "), err)
	}
	checkSecrets(t, cmd.Env, stdout.String()+stderr.String())
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// MustRun runs a command that must end well, and returns its last line.
func (h *Home) MustRun(t testing.TB, args ...string) map[string]any {
	t.Helper()
	r := h.Run(t, append(args, "--json")...)
	if r.Code != 0 {
		t.Fatalf("skyagent %s: exit %d\n%s", strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Last(t)
}

// A Process is a running command that prints one JSON object a line.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	name string
	done chan struct{} // closed when the process has ended and its output was read

	mu     sync.Mutex // guards what follows
	more   chan struct{}
	lines  []map[string]any
	stderr bytes.Buffer
}

// Start starts a command with --json. It is killed when the test ends, should
// it still run.
func (h *Home) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return h.start(t, append(args, "--json"))
}

// StartText starts a command that speaks to people: its lines are for WaitText.
func (h *Home) StartText(t testing.TB, args ...string) *Process {
	t.Helper()
	return h.start(t, args)
}

func (h *Home) start(t testing.TB, args []string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: h.Command(t, args...), name: args[0],
		done: make(chan struct{}), more: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(stdout, stderr)
	t.Cleanup(p.Kill)
	return p
}

func (p *Process) read(stdout, stderr io.Reader) {
	defer close(p.done)
	var errors sync.WaitGroup
	errors.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			checkSecrets(p.t, p.cmd.Env, lines.Text())
			p.mu.Lock()
			p.stderr.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
	})
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		checkSecrets(p.t, p.cmd.Env, lines.Text())
		var v map[string]any
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			v = map[string]any{plain: lines.Text()}
		}
		p.mu.Lock()
		p.lines = append(p.lines, v)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	errors.Wait()
	p.cmd.Wait()
}

// plain is under which a line is kept that is no JSON.
const plain = "text"

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stderr returns what the process said on standard error so far.
func (p *Process) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// Lines returns what the process printed so far.
func (p *Process) Lines() []map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}

// Wait returns the first line, printed before or from now on, that match likes.
func (p *Process) Wait(what string, match func(map[string]any) bool) map[string]any {
	p.t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	seen := 0
	for {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for _, v := range lines[seen:] {
			if match(v) {
				return v
			}
		}
		seen = len(lines)
		select {
		case <-more:
		case <-p.done:
			if len(p.Lines()) == seen {
				p.t.Fatalf("%s ended before %s\n%s", p.name, what, p.Stderr())
			}
		case <-deadline.C:
			p.t.Fatalf("%s: no %s within %s\nlast lines: %v\n%s", p.name, what, Patience, lines[max(0, len(lines)-3):], p.Stderr())
		}
	}
}

// WaitText returns the first line for people that has all of words.
func (p *Process) WaitText(words ...string) string {
	p.t.Helper()
	v := p.Wait(strings.Join(words, "…"), func(v map[string]any) bool {
		text, _ := v[plain].(string)
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
	return v[plain].(string)
}

// Ready waits until the process says that it is in step.
func (p *Process) Ready() map[string]any {
	p.t.Helper()
	return p.Wait("ready", func(v map[string]any) bool { return v["ready"] == true })
}

// Stop asks the process to leave, as Ctrl-C does, and returns its exit code.
func (p *Process) Stop() int {
	p.t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	return p.Ended()
}

// Ended waits for the end of the process and returns its exit code.
func (p *Process) Ended() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.t.Fatalf("%s has not ended within %s\n%s", p.name, Patience, p.Stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Kill ends the process as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}
