package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
)

const kills = 50

// TestKill9 kills the watch, and the copy, at random moments while files
// change: after the last start all is identical, and the bucket never names
// what is not there.
func TestKill9(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rng := seeded(t)
	e := newEditor(t, r.source, rand.New(rand.NewPCG(rng.Uint64(), 0)))
	// Deletions wait until no more of them come, which is longer than most of
	// the lives here: the tree must be so large that they are no mass deletion.
	for i := range 3000 {
		write(t, filepath.Join(r.source, fmt.Sprintf("d%d/e%d/f%d", i%10, i%300, i)), fmt.Sprint(i))
	}
	var editing sync.WaitGroup
	ctx, done := context.WithCancel(t.Context())
	editing.Go(func() {
		for ctx.Err() == nil {
			e.edit()
			time.Sleep(10 * time.Millisecond) // a busy tree, not a stress of the disk
		}
	})
	defer editing.Wait()
	defer done()

	start := func(command string) *program.Process {
		if command == "watch" {
			return r.home.Start(t, "watch", r.source, "--to", r.url, "--metrics", "off")
		}
		return r.home.Start(t, "copy", r.url, r.replica, "--metrics", "off", "--poll", "1s")
	}
	watch, replica := start("watch"), start("copy")
	live, said := 0, "" // by copies that were killed
	defer func() {
		if t.Failed() {
			t.Log(said)
		}
	}()
	for i := range kills {
		// Half of the kills hit the start, where most of the work is.
		most := 200 + 600*(i%2)
		time.Sleep(time.Duration(rng.IntN(most)) * time.Millisecond)
		if len(watch.Lines()) > 0 {
			live++
		}
		watch.Kill()
		watch = start("watch")
		if i%2 == 1 {
			replica.Kill()
			said += replica.Stderr()
			replica = start("copy")
		}
	}
	done()
	editing.Wait()
	explain(t, watch)
	explain(t, replica)
	watch.Ready()
	defer func() {
		if t.Failed() {
			r.logDifferences(t)
		}
	}()
	took := waitSame(t, r.source, r.replica)
	commits := r.checkBucket(t)
	t.Logf("%d kills of the watch (%d after it had committed), %d of the copy; %d changes %v; %d commits; identical %s after the last start",
		kills, live, kills/2, len(e.touched), e.counts, len(commits), took)
	stop(t, replica, watch)
}
