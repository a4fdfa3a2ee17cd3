//go:build compose && linux

package integration_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// coldPatience is how long a build of everything may take where others build.
const coldPatience = 20 * time.Minute

// TestNewcomer does what the README says first, from a clone and in a home where
// nothing is, with the modules in the cache and nothing built.
func TestNewcomer(t *testing.T) {
	command := firstCommand(t)
	home := t.TempDir()
	clone := filepath.Join(home, "skyagent")
	env := append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "XDG_DATA_HOME=", "XDG_CACHE_HOME=",
		"GOMODCACHE="+strings.TrimSpace(runIn(t, os.Environ(), nil, []string{"go"}, "env", "GOMODCACHE")), "GOCACHE="+filepath.Join(home, "built"))
	runIn(t, env, nil, []string{"git"}, "clone", "--quiet", "..", clone)
	write(t, filepath.Join(home, "datasets", "first"), "there before")

	began := time.Now()
	speak(t, clone, env, command, "watching ")
	t.Logf("%q was watching after %v", command, since(began))
	replica := filepath.Join(home, "replica")
	speak(t, clone, env, strings.Replace(command, "watch ~/datasets", "copy datasets "+replica, 1), "following ")
	write(t, filepath.Join(home, "datasets", "saved"), "by a newcomer")
	waitFor(t, "save on the replica", func() bool { return read(t, filepath.Join(replica, "saved")) == "by a newcomer" })
	t.Logf("a newcomer's save was on the replica %v after the first command", since(began))
}

// firstCommand returns the first command of the README.
func firstCommand(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, "../README.md"), "\n## Start\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	command, _, found := strings.Cut(rest, "\n")
	if !found || !strings.HasPrefix(command, "go run ") {
		t.Fatalf("the README begins with %q", command)
	}
	return command
}

// speak runs a command of a shell until the test ends, and waits until it has
// said a word at the begin of a line.
func speak(t *testing.T, dir string, env []string, command, word string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run has a child
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	said := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stdout)
		for heard := false; lines.Scan(); {
			if !heard && strings.HasPrefix(lines.Text(), word) {
				heard = true
				close(said)
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		<-ended
	})
	select {
	case <-said:
	case <-ended:
		t.Fatalf("%s ended with %v", command, cmd.ProcessState)
	case <-time.After(coldPatience):
		t.Fatalf("%s: nothing begins with %q after %v", command, word, coldPatience)
	}
}
