package mount

import (
	"sync"
	"time"
)

// An open of a version that was replaced is answered with ESTALE, upon which the
// kernel looks the name up and opens once more. A second ESTALE goes to the
// program: where somebody writes all the time, opens would fail. So the second
// open gets what was found to stand there when the first was answered: that was
// after the program had called.
type reopens struct {
	mu   sync.Mutex // guards what follows
	list map[uint32]reopen
}

// A reopen is what the thread's next open may have without asking anybody.
type reopen struct {
	n  *node
	by time.Time
}

const (
	reopenSoon = time.Second // the kernel opens again at once
	maxReopens = 1 << 10     // who waits for none gets a second ESTALE
)

// expect notes that thread tid was sent to look for n.
func (r *reopens) expect(tid uint32, n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.list == nil || len(r.list) >= maxReopens {
		r.list = map[uint32]reopen{}
	}
	r.list[tid] = reopen{n, now.Add(reopenSoon)}
}

// take reports whether thread tid was sent to n, and whether it was sent at all.
func (r *reopens) take(tid uint32, n *node) (same, sent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, sent := r.list[tid]
	delete(r.list, tid)
	sent = sent && time.Now().Before(one.by)
	return sent && one.n == n, sent
}
