//go:build linux

package posix_test

import (
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

// lying makes TestSuite promise what tmpfs does not do.
const lying = "SKYAGENT_POSIX_LYING"

func TestSuite(t *testing.T) {
	dirs := places(t)
	p := posix.Tmpfs()
	if os.Getenv(lying) != "" {
		maps.Copy(p.Refuses, lies)
	}
	t.Run("tmpfs", func(t *testing.T) { posix.Suite(t, dirs["tmpfs"], p) })
	t.Run("disk", func(t *testing.T) { posix.Suite(t, dirs["disk"], posix.Local()) })
}

var lies = map[posix.Feature]syscall.Errno{}

func init() {
	for _, f := range []posix.Feature{posix.HardLinks, posix.Symlinks, posix.FIFOs, posix.Sockets, posix.Devices, posix.ExchangeNames, posix.Whiteouts,
		posix.TmpFiles, posix.DirectIO, posix.Chown, posix.ExecBit, posix.SpecialBits, posix.Xattrs, posix.Allocate, posix.PunchHole, posix.ZeroRange,
		posix.NotUTF8, posix.ControlNames} {
		lies[f] = syscall.ENOTTY
	}
}

// A file system that does something else than its profile says is found, for
// every feature.
func TestSuiteFinds(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSuite$/^tmpfs$", "-test.short")
	cmd.Env = append(os.Environ(), lying+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("a wrong profile passes")
	}
	for feature := range lies {
		if !strings.Contains(string(out), string(feature)+": ") {
			t.Errorf("nothing is said about %q\n%s", feature, out)
		}
	}
}
