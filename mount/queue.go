package mount

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// A queue keeps changes of the bucket in order: jobs on one key run one after
// the other, as they were added, and so do those on a key and on what it stands
// below; all others run side by side.
type queue struct {
	slots chan struct{} // one for each job that may talk to the store

	mu      sync.Mutex // guards what follows
	tail    map[string]*job
	changes map[string]int // of each key, how many jobs change it
	open    map[*job]struct{}
}

// A job is a change that is under way. Its owner waits for its turn, does it,
// and ends it.
type job struct {
	q     *queue
	keys  []string
	looks bool // changes nothing
	after []*job
	done  chan struct{} // closed by end
}

// parallel is how many changes go to the store at a time.
const parallel = 64

func newQueue() *queue {
	return &queue{slots: make(chan struct{}, parallel), tail: map[string]*job{}, changes: map[string]int{}, open: map[*job]struct{}{}}
}

// add enters a job that changes keys; one that ends in a slash is a directory's
// marker.
func (q *queue) add(keys ...string) *job { return q.enter(&job{keys: keys}) }

// look enters a job that only looks at key.
func (q *queue) look(key string) *job { return q.enter(&job{keys: []string{key}, looks: true}) }

func (q *queue) enter(j *job) *job {
	j.q, j.done = q, make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range j.keys {
		j.follow(key)
	}
	for _, key := range j.keys {
		q.tail[key] = j
		if !j.looks {
			q.changes[key]++
		}
	}
	q.open[j] = struct{}{}
	return j
}

// follow notes what must be done before key is touched.
func (j *job) follow(key string) {
	j.wait(key)
	name := strings.TrimSuffix(key, "/")
	j.wait(name)
	j.wait(name + "/")
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		j.wait(name[:i])
		j.wait(name[:i+1])
	}
	if len(name) == len(key) {
		return
	}
	for other, tail := range j.q.tail {
		if strings.HasPrefix(other, key) {
			j.after = append(j.after, tail)
		}
	}
}

func (j *job) wait(key string) {
	if tail := j.q.tail[key]; tail != nil {
		j.after = append(j.after, tail)
	}
}

// turn waits until the jobs before j are done, and takes a slot.
func (j *job) turn(ctx context.Context) error {
	for _, before := range j.after {
		select {
		case <-before.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.after = nil
	select {
	case j.q.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yield gives the slot of turn back.
func (j *job) yield() { <-j.q.slots }

// end lets those go on that wait for j, whatever came of it.
func (j *job) end() {
	j.q.mu.Lock()
	defer j.q.mu.Unlock()
	for _, key := range j.keys {
		if j.q.tail[key] == j {
			delete(j.q.tail, key)
		}
		if j.looks {
			continue
		}
		if j.q.changes[key]--; j.q.changes[key] == 0 {
			delete(j.q.changes, key)
		}
	}
	delete(j.q.open, j)
	close(j.done)
}

// drain waits for all jobs that are under way now.
func (q *queue) drain(ctx context.Context) error {
	return q.wait(ctx, func(*job) bool { return true })
}

// looked waits for the looks at keys that begin with prefix.
func (q *queue) looked(ctx context.Context, prefix string) error {
	return q.wait(ctx, func(j *job) bool { return j.looks && strings.HasPrefix(j.keys[0], prefix) })
}

func (q *queue) wait(ctx context.Context, of func(*job) bool) error {
	q.mu.Lock()
	var jobs []*job
	for j := range q.open {
		if of(j) {
			jobs = append(jobs, j)
		}
	}
	q.mu.Unlock()
	for _, j := range jobs {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// changing returns how many changes are under way.
func (q *queue) changing() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for j := range q.open {
		if !j.looks {
			n++
		}
	}
	return n
}

// busy reports whether a job on key is under way.
func (q *queue) busy(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tail[key] != nil
}

// alters reports whether a job that changes key is under way.
func (q *queue) alters(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changes[key] > 0
}

// overtaken reports whether another job, after j, is going to change key.
func (j *job) overtaken(key string) bool {
	j.q.mu.Lock()
	defer j.q.mu.Unlock()
	others := j.q.changes[key]
	if !j.looks && slices.Contains(j.keys, key) {
		others--
	}
	return others > 0
}
