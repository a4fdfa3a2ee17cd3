package metrics

import (
	"sync"
	"time"
)

// A Watch takes what one watcher reports. Its gauges are sums over all.
type Watch struct {
	s *Set

	mu             sync.Mutex // guards what follows
	dirty, watches int        // as reported last
}

// Watch returns what takes the reports of one more watcher.
func (s *Set) Watch() *Watch { return &Watch{s: s} }

// Event counts one event of the file system.
func (w *Watch) Event(op string) { w.s.watchEvents.WithLabelValues(among(watchOps, op)).Inc() }

// Overflow counts a loss of events.
func (w *Watch) Overflow() { w.s.watchOverflows.Inc() }

// Rescan counts a walk of the tree that was asked for.
func (w *Watch) Rescan(reason string) {
	w.s.watchRescans.WithLabelValues(among(rescanReasons, reason)).Inc()
}

// Dirty sets the number of paths that have not settled.
func (w *Watch) Dirty(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.watchDirty.Add(float64(n - w.dirty))
	w.dirty = n
}

// Settled takes the time that a path took to settle.
func (w *Watch) Settled(d time.Duration) { w.s.watchSettle.Observe(d.Seconds()) }

// Watches sets the number of directories that are watched.
func (w *Watch) Watches(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.watches.Add(float64(n - w.watches))
	w.watches = n
}

// A Bus takes what a connection to the bus reports.
type Bus struct{ s *Set }

// Bus returns the part of s that takes what a connection to the bus reports.
func (s *Set) Bus() Bus { return Bus{s} }

// Up says whether the bus is connected.
func (b Bus) Up(up bool) { b.s.busUp.Set(flag(up)) }

// Dropped counts an event that was dropped.
func (b Bus) Dropped(reason string) { b.s.busDropped.WithLabelValues(among(dropReasons, reason)).Inc() }

// Published counts an event that the bus took.
func (b Bus) Published() { b.s.busPublished.Inc() }

// Delivered counts an event that is genuine.
func (b Bus) Delivered() { b.s.busDelivered.Inc() }
