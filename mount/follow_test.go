package mount

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A mortalBus is a bus that lives until die is called.
type mortalBus struct {
	mu      sync.Mutex
	dead    bool
	changed chan struct{}
}

func (b *mortalBus) die() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = true
	close(b.changed)
}

func (b *mortalBus) Announce(context.Context, []manifest.Write) error { return nil }
func (b *mortalBus) Fence(context.Context) error                      { return nil }
func (b *mortalBus) Alive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.dead
}
func (b *mortalBus) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return nil
	}
	return b.changed
}

// A slowList is a store whose listings hang once it has begun to be slow.
type slowList struct {
	objstore.Store
	begun chan struct{} // gets a token from each
	slow  *bool
}

func (s slowList) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	if !*s.slow {
		return s.Store.List(ctx, prefix, after)
	}
	return func(yield func(objstore.Info, error) bool) {
		s.begun <- struct{}{}
		<-ctx.Done()
		yield(objstore.Info{}, ctx.Err())
	}
}

// TestTrustEndsInListing loses the bus while the bucket is listed: nothing is
// trusted any more, and not only when the listing has come to its end.
func TestTrustEndsInListing(t *testing.T) {
	slow, begun := false, make(chan struct{}, 1)
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return slowList{store, begun, &slow} })
	slow = true
	bus := &mortalBus{changed: make(chan struct{})}
	m.opt.Bus = bus
	ctx, cancel := context.WithCancel(t.Context())
	var services sync.WaitGroup
	defer services.Wait()
	defer cancel()
	services.Go(func() { m.follow(ctx) })
	services.Go(func() { m.tends(ctx) })
	trusted := func(want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); m.trust.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("trust is still %v", !want)
			}
		}
	}
	trusted(true)
	m.reconcileSoon()
	<-begun
	bus.die()
	trusted(false)
}

// TestLogInOrder hears of a commit while those before it, which were missed, are
// being taken: what it says is not undone by them.
func TestLogInOrder(t *testing.T) {
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return store })
	m.early.release(m.hear)
	put := func(p manifest.Path, rev string) manifest.Change {
		return manifest.Change{Op: manifest.Put, File: manifest.File{Path: p, Mode: 0o644, Size: 1, Rev: rev}}
	}
	missed := manifest.Commit{Epoch: "e", Generation: 1}
	for i := range 10_000 {
		missed.Changes = append(missed.Changes, put(manifest.Path(fmt.Sprint("f", i)), "1"))
	}
	missed.Changes = append(missed.Changes, put("last", "1"))
	head := manifest.Position{Epoch: "e", Generation: 1, Commit: manifest.Sum([]byte("first"))}
	var taken sync.WaitGroup
	taken.Go(func() { m.takeLog("main", manifest.Position{}, head, []manifest.Commit{missed}) })
	for m.Status().Pos != head {
		runtime.Gosched()
	}
	m.Hear(News{Commit: &manifest.Event{Source: "main", Epoch: "e", Generation: 2, Prev: 1, Count: 1, Changes: []manifest.Change{put("last", "2")}}})
	taken.Wait()
	if got := m.revAt("last"); got != "2" {
		t.Errorf("the tree has revision %q, which the second commit replaced", got)
	}
}
