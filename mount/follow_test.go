package mount

import (
	"context"
	"iter"
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
