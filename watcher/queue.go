package watcher

import (
	"container/heap"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A queue holds the paths that are dirty until they have settled, and then
// until Next takes them. It keeps the time but looks at no file: that is the
// settler's part.
type queue struct {
	timing  Timing
	max     int
	obs     Observer
	full    func()        // called without mu when the bound is passed
	base    time.Time     // zero of the clock that entries use
	wake    chan struct{} // one slot: the earliest entry is another one; never closed
	settled chan struct{} // one slot: take has something; never closed

	mu      sync.Mutex // guards all below
	entries map[manifest.Path]*entry
	order   byDue // the entries that nobody is looking at
	told    int   // entries with told set
	retries map[manifest.Path]retry
	ready   map[manifest.Path]struct{}
	reason  string // of the Rescan to hand out, or ""
	open    bool   // false until the first Rescan: nothing is handed out before
}

// An entry is one dirty path. Times are on the queue's clock.
type entry struct {
	path  manifest.Path
	first time.Duration // when it became dirty, or was last handed out while still busy
	last  time.Duration // latest event
	hold  time.Duration // not to settle before
	due   time.Duration // when to look at it
	index int           // in order; -1 before, and while the settler looks at it
	gone  bool          // the last look found nothing there
	told  bool          // handed out, kept only to see it closed
}

// A retry remembers how often in a row a path was given back.
type retry struct {
	wait  time.Duration
	until time.Duration
}

func newQueue(t Timing, max int, obs Observer, full func()) *queue {
	return &queue{
		timing: t, max: max, obs: obs, full: full, base: now(),
		wake: make(chan struct{}, 1), settled: make(chan struct{}, 1),
		entries: map[manifest.Path]*entry{}, retries: map[manifest.Path]retry{}, ready: map[manifest.Path]struct{}{},
	}
}

func (q *queue) clock() time.Duration { return time.Since(q.base) }

// touch notes an event of p.
func (q *queue) touch(p manifest.Path) {
	at := q.clock()
	q.mu.Lock()
	q.touchLocked(p, at, 0)
	q.unlock()
}

// retry makes p dirty with a wait that doubles while p keeps coming back.
func (q *queue) retry(p manifest.Path) {
	at := q.clock()
	q.mu.Lock()
	r := q.retries[p]
	if r.wait = 2 * r.wait; r.wait == 0 || at > r.until {
		r.wait = q.timing.Retry
	}
	r.wait = min(r.wait, q.timing.RetryMax)
	r.until = at + r.wait + 2*q.timing.RetryMax
	q.retries[p] = r
	q.touchLocked(p, at, at+r.wait)
	q.unlock()
}

// touchLocked adds p or moves its time on. An entry in order keeps its place
// when it is touched: its due time is put right when it comes up, so that a
// path written a thousand times costs a thousand map look-ups and no more.
func (q *queue) touchLocked(p manifest.Path, at, hold time.Duration) {
	e := q.entries[p]
	if e == nil {
		e = &entry{path: p, first: at, last: at, hold: hold, index: -1}
		q.entries[p] = e
		q.push(e, q.dueAfterEvent(e))
		return
	}
	e.last, e.gone, e.hold = at, false, max(e.hold, hold)
	if e.told {
		q.told--
		e.told, e.first = false, at
	}
	if due := q.dueAfterEvent(e); e.index >= 0 && due < e.due {
		q.push(e, due) // it was to be looked at later, but the last write may be over now
	}
}

// dueAfterEvent returns when e may settle if nothing else happens to it.
func (q *queue) dueAfterEvent(e *entry) time.Duration {
	return max(min(e.last+q.timing.Quiet, e.first+q.timing.Longest), e.hold)
}

// push puts e into order, or moves it, and wakes the settler when e is the
// first one due.
func (q *queue) push(e *entry, due time.Duration) {
	e.due = due
	if e.index >= 0 {
		heap.Fix(&q.order, e.index)
	} else {
		heap.Push(&q.order, e)
	}
	if e.index == 0 {
		signal(q.wake)
	}
}

// pop takes at most n entries that are due out of order, to be looked at. They
// stay dirty, and touch still finds them.
func (q *queue) pop(n int) []look {
	at := q.clock()
	q.mu.Lock()
	defer q.mu.Unlock()
	var due []look
	for len(due) < n && len(q.order) > 0 && q.order[0].due <= at {
		e := q.order[0]
		if later := q.dueAfterEvent(e); later > at { // touched since it was put here
			e.due = later
			heap.Fix(&q.order, 0)
			continue
		}
		heap.Pop(&q.order)
		due = append(due, look{entry: e, path: e.path, last: e.last})
	}
	return due
}

// wait returns how long it is until an entry is due, or a long time.
func (q *queue) wait() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return time.Hour
	}
	return max(0, q.order[0].due-q.clock())
}

// A look is what the settler sees at the path of an entry. The entry itself
// belongs to the queue.
type look struct {
	entry   *entry
	path    manifest.Path
	last    time.Duration // event of the entry before the look: a later one makes the look void
	verdict verdict
}

// settle judges looks: entries that have settled are ready for Next, the others
// go back into order.
func (q *queue) settle(looks []look) {
	at := q.clock()
	q.mu.Lock()
	for _, l := range looks {
		e := l.entry
		if q.entries[e.path] != e {
			continue // notified or cleared meanwhile
		}
		if e.last != l.last {
			q.push(e, q.dueAfterEvent(e))
			continue
		}
		q.judge(l, at)
	}
	if len(q.ready) > 0 && q.open {
		signal(q.settled)
	}
	q.unlock()
}

// judge hands out the entry of l, or says when to look again.
func (q *queue) judge(l look, at time.Duration) {
	e := l.entry
	out, again := q.timing.judge(e, l.verdict, at)
	if out {
		q.ready[e.path] = struct{}{}
		q.obs.Settled(at - e.first)
	}
	if again == 0 {
		q.remove(e)
		return
	}
	if out {
		e.first = at
		if !e.told {
			e.told = true
			q.told++
		}
	}
	q.push(e, again)
}

// notify makes paths ready at once.
func (q *queue) notify(paths []manifest.Path) {
	q.mu.Lock()
	for _, p := range paths {
		if e := q.entries[p]; e != nil {
			q.remove(e)
		}
		q.ready[p] = struct{}{}
	}
	if len(q.ready) > 0 && q.open {
		signal(q.settled)
	}
	q.unlock()
}

func (q *queue) remove(e *entry) {
	delete(q.entries, e.path)
	if e.told {
		q.told--
	}
	if e.index >= 0 {
		heap.Remove(&q.order, e.index)
	}
}

// rescan makes a Rescan ready, the first of which lets take begin.
func (q *queue) rescan(reason string) {
	q.mu.Lock()
	q.reason, q.open = stronger(q.reason, reason), true
	q.mu.Unlock()
	signal(q.settled)
}

// clear forgets every path.
func (q *queue) clear() {
	q.mu.Lock()
	q.clearLocked()
	q.mu.Unlock()
}

func (q *queue) clearLocked() {
	q.entries, q.ready = map[manifest.Path]*entry{}, map[manifest.Path]struct{}{}
	q.retries = map[manifest.Path]retry{}
	q.order, q.told = nil, 0
}

// take returns what is ready, and false when nothing is.
func (q *queue) take() (manifest.Batch, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || len(q.ready) == 0 && q.reason == "" {
		return manifest.Batch{}, false
	}
	b := manifest.Batch{Rescan: q.reason, Paths: slices.Collect(maps.Keys(q.ready))}
	q.ready, q.reason = map[manifest.Path]struct{}{}, "" // a map that was large once would stay so
	q.obs.Dirty(len(q.entries) - q.told)
	return b, true
}

func (q *queue) dirty() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries) - q.told + len(q.ready)
}

// unlock releases mu, after it has collapsed a queue that passed its bound.
func (q *queue) unlock() {
	over := len(q.entries)+len(q.ready) > q.max
	if over {
		q.clearLocked()
	}
	if len(q.retries) > q.max/16 {
		q.forgetRetries()
	}
	q.mu.Unlock()
	if over {
		q.full()
	}
}

// forgetRetries drops what no longer counts, and everything when that is not enough.
func (q *queue) forgetRetries() {
	at := q.clock()
	for p, r := range q.retries {
		if at > r.until {
			delete(q.retries, p)
		}
	}
	if len(q.retries) > q.max/16 {
		clear(q.retries)
	}
}

// byDue is a heap of entries.
type byDue []*entry

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due < h[j].due }
func (h byDue) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *byDue) Push(x any)        { e := x.(*entry); e.index = len(*h); *h = append(*h, e) }
func (h *byDue) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = -1
	return e
}
