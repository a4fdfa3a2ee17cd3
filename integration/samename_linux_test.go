package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// TestBucketsOfOneName has two buckets whose names end alike on one bus, each
// with a watch, a replica and a mount, by one machine's key: nothing of the one
// is seen in the other.
func TestBucketsOfOneName(t *testing.T) {
	t.Parallel()
	nats := servers.NATS(t, servers.NATSOptions{})
	home := program.NewHome(t)
	var rigs [2]*rig
	var mounts [2]string
	var readers [2][]*program.Process
	for i := range rigs {
		bucket := filepath.Join(t.TempDir(), "data")
		r := &rig{home: home, url: "file://" + bucket, source: t.TempDir(), replica: t.TempDir()}
		watch := r.watch(t, "--nats", nats.URL)
		replica := r.copy(t, "--nats", nats.URL)
		dir, mount := r.mount(t, "--nats", nats.URL)
		defer stop(t, watch, replica)
		r.waitMounts(t, 1, nats.URL)
		rigs[i], mounts[i], readers[i] = r, dir, []*program.Process{replica, mount}
	}

	const secret = "of x alone"
	for what, write := range map[string]func(name string){
		"written": func(name string) { write(t, filepath.Join(mounts[0], name), secret) },
		"saved":   func(name string) { write(t, filepath.Join(rigs[0].source, name), secret) },
	} {
		var before []float64
		for _, p := range readers[1] {
			before = append(before, dropped(t, p, "other_bucket"))
		}
		write(what)
		waitFor(t, what+" file in x", func() bool {
			return contains(mounts[0], what, secret) && contains(rigs[0].replica, what, secret)
		})
		for i, p := range readers[1] {
			waitFor(t, "a word about it to be dropped", func() bool { return dropped(t, p, "other_bucket") > before[i] },
				func() any { return metrics(t, p) })
		}
		for _, dir := range []string{mounts[1], rigs[1].replica} {
			if names := listed(dir); slices.Contains(names, what) {
				t.Errorf("%s in y: %q", what, names)
			}
			if _, err := os.Stat(filepath.Join(dir, what)); err == nil {
				t.Errorf("%s is found in y", what)
			}
		}
	}
	write(t, filepath.Join(mounts[1], "own"), "of y")
	write(t, filepath.Join(rigs[1].source, "own too"), "of y")
	for _, dir := range []string{mounts[1], rigs[1].replica} {
		waitFor(t, "files of y", func() bool { return contains(dir, "own", "of y") && contains(dir, "own too", "of y") })
	}
}
