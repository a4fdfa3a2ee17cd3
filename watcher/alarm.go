package watcher

import "time"

// An alarm rings once at a time set before. It exists because a Go timer of
// less than a millisecond rings up to a millisecond late in an idle program
// (the runtime waits in whole milliseconds), which would be a fifth of the
// quiet time.
type alarm interface {
	set(time.Duration)  // a later call replaces an earlier one; a stale ring may still come
	c() <-chan struct{} // has one slot; never closed
	stop()
}

// A ticker is an alarm on the runtime's timers: for systems without a better
// one, and for tests that hold the clock.
type ticker struct {
	ring  chan struct{}
	timer *time.Timer
}

func newTicker() alarm {
	t := ticker{ring: make(chan struct{}, 1)}
	t.timer = time.AfterFunc(time.Hour, func() { signal(t.ring) })
	return t
}

func (t ticker) set(d time.Duration) { t.timer.Reset(d) }
func (t ticker) c() <-chan struct{}  { return t.ring }
func (t ticker) stop()               { t.timer.Stop() }
