package bus

import (
	"context"
	"sync"

	"github.com/skyagent/skyagent/manifest"
)

// maxEpochs bounds how many epochs of one source are told apart. A source gets
// a new epoch when its log is made anew, which is rare.
const maxEpochs = 16

// A mailbox holds one event for every source, the newest; a reader that is slow
// finds one event, not a queue. Sources are bounded by trust: only verified
// events get here.
type mailbox struct {
	full chan struct{} // holds one token while anything waits

	mu      sync.Mutex // guards the rest
	slots   map[string]*slot
	waiting []*slot
}

// A slot is what is known of one source.
type slot struct {
	event  *manifest.Event
	epochs []epoch // the latest last
}

// An epoch remembers how far a log was announced, for ever: events from before
// are duplicates or replays. Every epoch has its own mark, so that a replayed
// event of a former one cannot hide the events of the present one.
type epoch struct {
	id         manifest.Epoch
	generation uint64
}

func newMailbox() *mailbox {
	return &mailbox{full: make(chan struct{}, 1), slots: map[string]*slot{}}
}

// put takes e in, in place of an older event of its source, and reports whether
// e is news.
func (b *mailbox) put(e manifest.Event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slots[e.Source]
	if s == nil {
		s = new(slot)
		b.slots[e.Source] = s
	}
	if !s.news(e) {
		return false
	}
	if s.event == nil {
		b.waiting = append(b.waiting, s)
	}
	s.event = &e
	b.signal()
	return true
}

// news reports whether e is newer than everything seen of its epoch, and
// remembers it.
func (s *slot) news(e manifest.Event) bool {
	for i := range s.epochs {
		if s.epochs[i].id == e.Epoch {
			newer := e.Generation > s.epochs[i].generation
			s.epochs[i].generation = max(e.Generation, s.epochs[i].generation)
			return newer
		}
	}
	if len(s.epochs) == maxEpochs {
		s.epochs = s.epochs[1:]
	}
	s.epochs = append(s.epochs, epoch{e.Epoch, e.Generation})
	return true
}

// signal is called with mu held.
func (b *mailbox) signal() {
	select {
	case b.full <- struct{}{}:
	default:
	}
}

// take waits for an event. The source that has waited longest comes first.
func (b *mailbox) take(ctx context.Context) (manifest.Event, error) {
	for {
		select {
		case <-ctx.Done():
			return manifest.Event{}, ctx.Err()
		case <-b.full:
		}
		if e, ok := b.pop(); ok {
			return e, nil
		}
	}
}

// pop returns the event that has waited longest. There may be none although
// full said so: an event that came between the word and the look was taken
// with the one it replaced.
func (b *mailbox) pop() (manifest.Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return manifest.Event{}, false
	}
	s := b.waiting[0]
	b.waiting = b.waiting[1:]
	e := *s.event
	s.event = nil
	if len(b.waiting) > 0 {
		b.signal()
	}
	return e, true
}
