package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
)

// TestUserUnit has systemd read the unit, for a directory, as it would for a user
// who installed it.
func TestUserUnit(t *testing.T) {
	t.Parallel()
	program.Short(t)
	home := t.TempDir()
	unit := filepath.Join(home, "skyagent-watch@tmp-my\\x20data.service")
	text := read(t, "../deploy/systemd/skyagent-watch@.service")
	write(t, unit, strings.ReplaceAll(text, "/usr/local/bin/skyagent", program.Binary(t)))
	if said := verifyUnit(t, home, unit); said != "" {
		t.Errorf("systemd-analyze: %s", said)
	}
	write(t, unit, text+"\n[Service]\nNoSuchKey=yes\n")
	if said := verifyUnit(t, home, unit); !strings.Contains(said, "NoSuchKey") {
		t.Errorf("systemd-analyze says nothing of a wrong key: %q", said)
	}
}

// verifyUnit returns what systemd has to say against a user's unit.
func verifyUnit(t *testing.T, home, unit string) string {
	t.Helper()
	cmd := exec.Command("systemd-analyze", "--user", "verify", unit)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home)
	out, err := cmd.CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Fatal(err)
	}
	return string(out)
}
