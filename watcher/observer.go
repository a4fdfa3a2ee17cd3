package watcher

import "time"

// An Observer is told what happens, for metrics. Its methods are called on the
// hot path, by several goroutines: they must be fast and safe for that.
type Observer interface {
	Event(op string)         // the backend reported "create", "write", "remove", "rename" or "chmod"
	Overflow()               // events or dirty paths were dropped
	Rescan(reason string)    // a Batch with this Rescan is due
	Dirty(n int)             // paths that are dirty or settled and not yet taken
	Settled(d time.Duration) // a path settled, this long after its first event
	Watches(n int)           // directories watched
}

// nobody observes nothing.
type nobody struct{}

func (nobody) Event(string)          {}
func (nobody) Overflow()             {}
func (nobody) Rescan(string)         {}
func (nobody) Dirty(int)             {}
func (nobody) Settled(time.Duration) {}
func (nobody) Watches(int)           {}
