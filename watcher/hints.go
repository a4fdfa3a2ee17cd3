package watcher

import (
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
)

// Hints are what the reader of events leaves for the keeper of the tree. The
// reader must never wait for a file system, so it only notes.
type hints struct {
	wake chan struct{} // one slot; never closed
	max  int

	mu   sync.Mutex // guards all below
	seen seen
}

// Seen is what has been noted since the last take.
type seen struct {
	names  map[manifest.Path]fsnotify.Op // names that may be bound to something else now
	reason string                        // why the whole tree must be looked at, or ""
	root   bool                          // the root itself moved or went
}

func newHints(max int) *hints {
	return &hints{wake: make(chan struct{}, 1), max: max, seen: seen{names: map[manifest.Path]fsnotify.Op{}}}
}

// name notes that p may be bound to something else. Beyond the bound all names
// become one look at the tree, which finds the same.
func (h *hints) name(p manifest.Path, op fsnotify.Op) {
	h.mu.Lock()
	h.seen.names[p] |= op
	if len(h.seen.names) > h.max {
		clear(h.seen.names)
		h.seen.reason = stronger(h.seen.reason, reasonOverflow)
	}
	h.mu.Unlock()
	signal(h.wake)
}

// ask notes that the whole tree must be looked at.
func (h *hints) ask(reason string) {
	h.mu.Lock()
	h.seen.reason = stronger(h.seen.reason, reason)
	h.mu.Unlock()
	signal(h.wake)
}

// root notes that the root itself moved or went.
func (h *hints) root() {
	h.mu.Lock()
	h.seen.root = true
	h.mu.Unlock()
	signal(h.wake)
}

// take returns what was noted and forgets it.
func (h *hints) take() seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seen
	h.seen = seen{names: map[manifest.Path]fsnotify.Op{}}
	return s
}

// signal fills the one slot of c.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
