package main

import (
	"context"
	"sync"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

// waitingWrites is how many writes of mounts wait for a busy replica. When
// there are more, they are forgotten, and the replica reads the notes.
const waitingWrites = 256

// mountWrites gives a replica what a feed hears of mounts.
type mountWrites struct {
	more chan struct{} // holds one token while anything waits

	mu      sync.Mutex // guards the rest
	waiting []manifest.Writes
	look    bool // something was missed
}

func newMountWrites() *mountWrites { return &mountWrites{more: make(chan struct{}, 1)} }

// hear is for bus.Feed.Run. Commits reach the replica by its follower.
func (m *mountWrites) hear(h bus.Heard) {
	if h.Commit != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.Lost || len(m.waiting) == waitingWrites {
		m.waiting, m.look = nil, true
	}
	if h.Writes != nil {
		m.waiting = append(m.waiting, *h.Writes)
	}
	m.signal()
}

// signal is called with mu held.
func (m *mountWrites) signal() {
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// NextWrites waits for writes, or for a reason to read the notes, which comes
// as writes without changes.
func (m *mountWrites) NextWrites(ctx context.Context) (manifest.Writes, error) {
	for {
		if w, ok := m.pop(); ok {
			return w, nil
		}
		select {
		case <-ctx.Done():
			return manifest.Writes{}, ctx.Err()
		case <-m.more:
		}
	}
}

func (m *mountWrites) pop() (manifest.Writes, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.look:
		m.look = false
		return manifest.Writes{}, true
	case len(m.waiting) > 0:
		w := m.waiting[0]
		m.waiting = m.waiting[1:]
		return w, true
	}
	return manifest.Writes{}, false
}
