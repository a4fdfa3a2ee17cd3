//go:build unix

package manifest_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// special makes a FIFO and a socket, and says how they are skipped.
func special(t testing.TB, root string) map[string]manifest.Skip {
	t.Helper()
	fifo(t, filepath.Join(root, "fifo"))
	sock, err := net.Listen("unix", filepath.Join(root, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	return map[string]manifest.Skip{"fifo": manifest.SkipSpecial, "sock": manifest.SkipSpecial}
}

func fifo(t testing.TB, name string) {
	t.Helper()
	if err := syscall.Mkfifo(name, 0o644); err != nil {
		t.Fatal(err)
	}
}

const nobody = 65534

// asNobody runs f where permissions count: root runs the test again in a
// child process of another user.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	// By this name no directory on the way needs to be open to the other user.
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}
