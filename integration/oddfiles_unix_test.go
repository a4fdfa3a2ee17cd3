//go:build unix

package integration_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
)

// nobody is a user without rights.
const nobody = 65534

// powerless returns the user to run as so that permissions count: somebody else
// than root, or 0 for whoever runs the test.
func powerless() uint32 {
	if os.Geteuid() != 0 {
		return 0
	}
	return nobody
}

// openTemp returns a directory that other users may use.
func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyagent-open-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777))
	return dir
}

// TestOddFiles has everything in the source that cannot be synced: the rest is.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	program.Short(t)
	dir := openTemp(t)
	source := filepath.Join(dir, "source")
	write(t, filepath.Join(source, "good"), "good")
	write(t, filepath.Join(source, "closed", "inside"), "x")
	write(t, filepath.Join(source, "secret"), "x")
	write(t, filepath.Join(source, "bad-\xff-name"), "x")
	must(t, os.Chmod(filepath.Join(source, "closed"), 0))
	must(t, os.Chmod(filepath.Join(source, "secret"), 0))
	must(t, syscall.Mkfifo(filepath.Join(source, "fifo"), 0o644))
	must(t, os.Symlink("good", filepath.Join(source, "link")))
	socket, err := net.Listen("unix", filepath.Join(source, "socket"))
	must(t, err)
	defer socket.Close()

	home := &program.Home{Dir: dir, Env: []string{"SKYAGENT_HOME=" + filepath.Join(dir, "home")}, User: powerless()}
	result := home.Run(t, "sync", source, "--json")
	if result.Code != 3 {
		t.Errorf("exit %d, want 3\n%s", result.Code, result.Stderr)
	}
	for _, line := range []string{
		`warning: "bad-\xff-name": skipped, its name is not valid UTF-8; rename it`,
		`warning: closed: skipped, it cannot be read (permission denied)`,
		`warning: fifo: skipped, it is a FIFO, a socket or a device`,
		`warning: secret: `,
		`warning: socket: skipped, it is a FIFO, a socket or a device`,
	} {
		if strings.Count(result.Stderr, line) != 1 {
			t.Errorf("no line %q in:\n%s", line, result.Stderr)
		}
	}
	if n := strings.Count(result.Stderr, "\n"); n != 5 {
		t.Errorf("%d lines, want 5:\n%s", n, result.Stderr)
	}
	if got := read(t, filepath.Join(dir, "home/data/buckets/source/good")); got != "good" {
		t.Errorf("the good file is %q in the bucket", got)
	}
	// A watch says the same, stays, and status names them.
	watch := home.Start(t, "watch", source, "--metrics", "off")
	watch.Ready()
	waitFor(t, "skipped files in status", func() bool {
		st := statusOf(t, home, "source")
		return len(st.Sources) == 1 && st.Sources[0].Skipped >= 5 && st.Sources[0].State == "READY"
	})
	write(t, filepath.Join(source, "good"), "better")
	waitFor(t, "the good file", func() bool { return read(t, filepath.Join(dir, "home/data/buckets/source/good")) == "better" })
	if code := watch.Stop(); code != 3 {
		t.Errorf("the watch left with exit %d, want 3", code)
	}
	if n := strings.Count(watch.Stderr(), "\n"); n != 5 {
		t.Errorf("the watch said %d lines, want 5:\n%s", n, watch.Stderr())
	}
}
