package bus

import (
	"time"

	"github.com/skyagent/skyagent/manifest"
)

const (
	// maxSessions bounds how many lives of mounts of one writer are told apart.
	maxSessions = 64
	// oldWrites is the age from which writes of a session that is new to us
	// count as a recording: a mount says everything with the time at which it
	// says it, and clocks differ by less.
	oldWrites = 5 * time.Minute
)

// spoken remembers how far every session of every writer has been heard. Its
// size is bounded by trust: only verified writes get here.
type spoken map[string]*writer

// A writer is what is known of one key.
type writer struct {
	heard map[string]uint64 // the newest Seq of a session
	floor string            // the newest session that was forgotten: older ones do not come back
}

// A verdict says what to do with writes.
type verdict int

const (
	news    verdict = iota // they follow what was heard
	gap                    // they are news, and something before them is missing
	nothing                // a beacon that says what is known
	stale                  // heard before, or replayed
	ancient                // perhaps a recording, perhaps a clock that is wrong
)

// judge decides on writes and remembers them.
func (s spoken) judge(w manifest.Writes, now time.Time) verdict {
	of := s[w.Writer]
	if of == nil {
		of = &writer{heard: map[string]uint64{}}
		s[w.Writer] = of
	}
	last, known := of.heard[w.Session]
	beacon := len(w.Changes) == 0
	switch {
	case !known && w.Session <= of.floor:
		return stale
	case !known && now.Sub(w.Time) > oldWrites:
		return ancient
	case known && beacon && w.Seq == last:
		return nothing
	case known && w.Seq <= last:
		return stale
	}
	of.hear(w.Session, w.Seq)
	switch {
	case known && (w.Seq != last+1 || beacon):
		return gap
	case beacon:
		return nothing
	}
	return news
}

// hear remembers a session, in place of the oldest when there are too many.
func (w *writer) hear(session string, seq uint64) {
	if _, known := w.heard[session]; !known && len(w.heard) >= maxSessions {
		oldest := session
		for s := range w.heard {
			oldest = min(oldest, s)
		}
		delete(w.heard, oldest)
		w.floor = max(w.floor, oldest)
	}
	w.heard[session] = seq
}
