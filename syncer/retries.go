package syncer

import (
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// Waits before a path is looked at again; they double up to the maximum.
const (
	soonMin, soonMax   = 20 * time.Millisecond, time.Second // a file that is being written
	laterMin, laterMax = time.Second, time.Minute           // a store that is away
)

// retries are the paths that must be looked at again without anybody saying so.
type retries struct {
	waiting map[manifest.Path]time.Time // when the wait ends
	tries   map[manifest.Path]int       // of those and of the ones under way
	next    time.Time                   // not after the first that is due
}

func newRetries() retries {
	return retries{waiting: make(map[manifest.Path]time.Time), tries: make(map[manifest.Path]int)}
}

// soon waits for a file that changed while it was read, or for another path.
func (r *retries) soon(p manifest.Path, now time.Time) int { return r.add(p, now, soonMin, soonMax) }

// later waits for a store.
func (r *retries) later(p manifest.Path, now time.Time) int {
	return r.add(p, now, laterMin, laterMax)
}

func (r *retries) add(p manifest.Path, now time.Time, least, most time.Duration) int {
	n := r.tries[p]
	r.tries[p] = n + 1
	at := now.Add(min(least<<min(n, 16), most))
	if len(r.waiting) == 0 || at.Before(r.next) {
		r.next = at
	}
	r.waiting[p] = at
	return n + 1
}

// drop ends the wait for p: it is being looked at.
func (r *retries) drop(p manifest.Path) { delete(r.waiting, p) }

// forget says that p is done with.
func (r *retries) forget(p manifest.Path) {
	delete(r.waiting, p)
	delete(r.tries, p)
}

// due returns when the first wait ends, and false when there is none.
func (r *retries) due() (time.Time, bool) { return r.next, len(r.waiting) > 0 }

// take returns the paths whose wait is over.
func (r *retries) take(now time.Time) []manifest.Path {
	if len(r.waiting) == 0 || now.Before(r.next) {
		return nil
	}
	var paths []manifest.Path
	r.next = time.Time{}
	for p, at := range r.waiting {
		if !at.After(now) {
			paths = append(paths, p)
			delete(r.waiting, p)
		} else if r.next.IsZero() || at.Before(r.next) {
			r.next = at
		}
	}
	return paths
}
