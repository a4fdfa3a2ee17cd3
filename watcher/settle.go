package watcher

import (
	"context"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A settler decides when a dirty path is safe to read. It is a plain loop over
// the queue, a prober and an alarm.
//
// A path has settled when no event came for Timing.Quiet and nobody holds it
// open for writing. While somebody does, it is looked at again every
// Timing.Busy, then less often. Where the system cannot tell who writes, the
// quiet time grows with the file's size. A path that is gone waits twice as
// long and is looked at again, because editors save by rename. A path that
// does not settle is handed out every Timing.Longest anyway; its reader has to
// find out for itself whether what it read is whole.
type settler struct {
	queue *queue
	probe prober
	alarm alarm
	obs   Observer
}

// A prober looks at what is at a path now. It must not block.
type prober interface {
	probe(manifest.Path) verdict
	rootHolds() bool // the root is still the directory that is watched
}

// A verdict is the result of one look.
type verdict struct {
	state state
	size  int64 // bytes, of a state unknown
}

type state uint8

const (
	free    state = iota // nobody writes it: a file without a writer, a directory, a link
	busy                 // open for writing
	unknown              // a file, and the system cannot tell
	gone                 // nothing is there
	lost                 // nothing is there, but neither is the root
)

// group is how many paths are looked at before those that settled are handed
// out: enough to make a burst few Batches, few enough that its first paths do
// not wait for long.
const group = 1024

// run settles paths until ctx ends.
func (s *settler) run(ctx context.Context) {
	defer s.alarm.stop()
	for {
		for s.round() && ctx.Err() == nil {
		}
		s.alarm.set(s.queue.wait())
		select {
		case <-ctx.Done():
			return
		case <-s.queue.wake:
		case <-s.alarm.c():
		}
	}
}

// round looks at a group of entries that are due, and reports whether there
// were any.
func (s *settler) round() bool {
	looks := s.queue.pop(group)
	if len(looks) == 0 {
		return false
	}
	absent := false
	for i := range looks {
		looks[i].verdict = s.probe.probe(looks[i].path)
		absent = absent || looks[i].verdict.state == gone
	}
	if absent && !s.probe.rootHolds() {
		lose(looks)
	}
	s.queue.settle(looks)
	s.obs.Dirty(s.queue.dirty())
	return true
}

// lose takes back that paths are gone: the root is gone with them, and
// deletions are not to be invented.
func lose(looks []look) {
	for i := range looks {
		if looks[i].verdict.state == gone {
			looks[i].verdict.state = lost
		}
	}
}

// judge decides what a look at e means at the time at: whether e is handed out
// now, and when to look again; 0 is never, e is done.
func (t Timing) judge(e *entry, v verdict, at time.Duration) (out bool, again time.Duration) {
	late := at-e.first >= t.Longest
	switch v.state {
	case busy:
		// Still open, it is not done even when it is handed out: closing it, or
		// a store through a memory map, gives no event.
		wait := t.BusyMax
		if !e.told && !late {
			wait = min(max(t.Busy, (at-e.first)/10), t.BusyMax)
		}
		if late {
			return true, at + wait
		}
		return false, min(at+wait, e.first+t.Longest)
	case unknown:
		if rest := e.last + quietBySize(v.size); rest > at && !late {
			return false, rest
		}
	case gone:
		if !e.gone || at < e.last+2*t.Quiet {
			e.gone = true
			return false, at + t.Quiet
		}
	case lost:
		return false, at + t.BusyMax
	}
	return true, 0
}
