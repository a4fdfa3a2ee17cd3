package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/servers"
)

// mounts mounts the rig's bucket several times, on one bus, and waits until all
// trust it.
func (r *rig) mounts(t *testing.T, n int, args ...string) []string {
	t.Helper()
	nats := servers.NATS(t, servers.NATSOptions{})
	var dirs []string
	for range n {
		dir, _ := r.mount(t, append([]string{"--nats", nats.URL}, args...)...)
		dirs = append(dirs, dir)
	}
	r.waitMounts(t, n, nats.URL)
	return dirs
}

func (r *rig) waitMounts(t *testing.T, n int, nats string) {
	t.Helper()
	waitFor(t, "mounts to trust the bus", func() bool {
		ready := 0
		for _, w := range r.status(t, "--nats", nats).Workers {
			if w.Mode == "MOUNT" && w.State == "READY" {
				ready++
			}
		}
		return ready == n
	})
}

// TestMountRegisters has several processes on several mounts write and read the
// same files: no open may miss a write whose close had returned.
func TestMountRegisters(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 4)
	ops := 20_000
	if os.Getenv("SKYAGENT_LONG") != "" {
		ops = 100_000
	}
	posix.Registers(t, dirs, posix.RegistersOptions{Ops: ops, Seed: 1, InPlace: true, Overlap: false})
}

func TestMountPingPong(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	took := posix.PingPong(t, dirs[0], dirs[1], 200)
	slices.Sort(took)
	t.Logf("a round of two writes and two reads: p50 %v, p99 %v", took[len(took)/2], took[len(took)*99/100])
}

// TestMountVisible measures how long after a close all other mounts read it.
func TestMountVisible(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 4)
	var took []time.Duration
	for i := range 300 {
		want := fmt.Sprintf("version %d", i)
		began := time.Now()
		write(t, filepath.Join(dirs[i%4], "f"), want)
		for _, dir := range dirs {
			waitFor(t, "the write to be read", func() bool {
				b, err := os.ReadFile(filepath.Join(dir, "f"))
				return err == nil && string(b) == want
			})
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from open to read on all of 4 mounts: p50 %v, p99 %v", took[150], took[297])
}
