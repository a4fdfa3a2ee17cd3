//go:build linux

package posix_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

func TestRegisters(t *testing.T) {
	for name, dir := range places(t) {
		ops := map[string]int{"tmpfs": 20_000, "disk": 5_000}[name]
		if testing.Short() {
			ops = 2_000
		}
		t.Run(name, func(t *testing.T) {
			posix.Registers(t, []string{dir, dir}, posix.RegistersOptions{Ops: ops, Seed: 1, Workers: 1})
			posix.Registers(t, []string{dir}, posix.RegistersOptions{Ops: ops, Seed: 2, Workers: 4})
		})
	}
}

// Two directories that do not show the same, and a file that is read while it
// is written, are found.
func TestRegistersFind(t *testing.T) {
	said := judge(t, func(tb testing.TB) {
		posix.Registers(tb, []string{t.TempDir(), t.TempDir()}, posix.RegistersOptions{Ops: 2000})
	})
	if !strings.Contains(said, "no order of the operations explains") {
		t.Errorf("two directories: %q", said)
	}
	said = judge(t, func(tb testing.TB) {
		posix.Registers(tb, []string{t.TempDir()}, posix.RegistersOptions{Ops: 20_000, Files: 1, Workers: 4, Overlap: true})
	})
	if !strings.Contains(said, "torn") && !strings.Contains(said, "mixed") {
		t.Errorf("no turns: %q", said)
	}
}

func TestPingPong(t *testing.T) {
	dir := t.TempDir()
	took := posix.PingPong(t, dir, dir, 200)
	if len(took) != 200 {
		t.Errorf("%d rounds", len(took))
	}
	slices.Sort(took)
	t.Logf("median round %v", took[100])
}
