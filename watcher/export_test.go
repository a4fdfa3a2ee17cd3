package watcher

import (
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
)

// What a fake prober may say.
const (
	Free    = free
	Busy    = busy
	Unknown = unknown
	Gone    = gone
)

type State = state

// A FakeProbe says what is at a path, and how large it is.
type FakeProbe func(manifest.Path) (State, int64)

func (f FakeProbe) probe(p manifest.Path) verdict {
	s, size := f(p)
	return verdict{state: s, size: size}
}

func (f FakeProbe) rootHolds() bool { return true }

// Hold makes w run by the timers of the runtime, which a synctest bubble holds,
// and ask f instead of the disk.
func Hold(w *Watcher, f FakeProbe) {
	w.alarm = func() (alarm, error) { return newTicker(), nil }
	w.probe = f
}

// OpenForWriting is the question that the prober asks of a file.
func OpenForWriting(path string) State { return openForWriting(path) }

// Coalesce returns what a backend's reader does with one event.
func Coalesce(w *Watcher) func(fsnotify.Event) {
	r := &reader{root: w.opts.Root, queue: w.queue, hints: w.hints, obs: w.obs, w: w}
	return r.event
}

// NextRescan returns how long after a look at the whole tree the next one is
// due, and its reason.
func NextRescan(remote bool, unwatched int) (time.Duration, string) {
	var at time.Time
	t := &tree{remote: remote}
	t.count[exhausted] = unwatched
	next, reason := newSchedule(Timing{}.orDefaults(), at).next(t)
	return next.Sub(at), reason
}

// Remote reports whether path is on a network file system.
func Remote(path string) bool { return remote(path) }
