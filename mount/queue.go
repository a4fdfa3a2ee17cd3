package mount

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A queue keeps changes of the bucket in order: jobs on one key run one after
// the other, as they were added, and so do those on a key and on what it stands
// below; all others run side by side.
type queue struct {
	slots chan struct{} // one for each job that may talk to the store

	mu      sync.Mutex // guards what follows
	tail    map[string]*job
	below   map[string]map[string]*job // of each directory's marker, what tail has below it
	changes map[string]int             // of each key, how many jobs change it
	open    map[*job]struct{}
	entered uint64        // jobs so far
	round   int           // counts calls of urge, from 1 on
	urged   chan struct{} // closed by the next of them
	refusal chan struct{} // closed when a job is refused
}

// A job is a change that is under way. Its owner waits for its turn, does it,
// and ends it.
type job struct {
	q     *queue
	keys  []string
	looks bool // changes nothing
	after []*job
	done  chan struct{}        // closed when it has ended, and all before it are done
	inner *atomic.Pointer[job] // of a job that has others do its attempts: the last of these; may be nil

	number    uint64
	ended     bool   // guarded by the queue's mutex, like what follows
	ahead     int    // how many of after are not done
	followers []*job // those that have this one in after
	behind    *job   // which it waits for
	trouble   error  // of the last attempt; nil while none has failed
	refused   int    // the round in which the store refused it; 0 when it did not
}

// parallel is how many changes go to the store at a time.
const parallel = 64

func newQueue() *queue {
	return &queue{slots: make(chan struct{}, parallel), tail: map[string]*job{}, below: map[string]map[string]*job{}, changes: map[string]int{}, open: map[*job]struct{}{},
		round: 1, urged: make(chan struct{}), refusal: make(chan struct{})}
}

// add enters a job that changes keys; one that ends in a slash is a directory's
// marker.
func (q *queue) add(keys ...string) *job { return q.enter(&job{keys: keys}) }

// addOuter enters a job that changes nothing itself: the changes that inner holds
// one after the other are its attempts.
func (q *queue) addOuter(inner *atomic.Pointer[job]) *job { return q.enter(&job{inner: inner}) }

// look enters a job that only looks at key.
func (q *queue) look(key string) *job { return q.enter(&job{keys: []string{key}, looks: true}) }

func (q *queue) enter(j *job) *job {
	j.q, j.done = q, make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range j.keys {
		j.follow(key)
	}
	j.ahead = len(j.after)
	for _, before := range j.after {
		before.followers = append(before.followers, j)
	}
	for _, key := range j.keys {
		q.setTail(key, j)
		if !j.looks {
			q.changes[key]++
		}
	}
	q.entered++
	j.number = q.entered
	q.open[j] = struct{}{}
	return j
}

// follow notes what must be done before key is touched.
func (j *job) follow(key string) {
	j.wait(key)
	name := strings.TrimSuffix(key, "/")
	j.wait(name)
	j.wait(name + "/")
	for marker := range markersAbove(key) {
		j.wait(strings.TrimSuffix(marker, "/"))
		j.wait(marker)
	}
	if len(name) == len(key) {
		return
	}
	for _, tail := range j.q.below[key] {
		j.after = append(j.after, tail)
	}
}

// setTail makes j the last job on key; nil is none. The queue's mutex is held.
func (q *queue) setTail(key string, j *job) {
	if j != nil {
		q.tail[key] = j
	} else {
		delete(q.tail, key)
	}
	for marker := range markersAbove(key) {
		switch keys := q.below[marker]; {
		case j == nil:
			if delete(keys, key); len(keys) == 0 {
				delete(q.below, marker)
			}
		case keys == nil:
			q.below[marker] = map[string]*job{key: j}
		default:
			keys[key] = j
		}
	}
}

// markersAbove returns the markers of the directories that key lies in, from
// below.
func markersAbove(key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		name := strings.TrimSuffix(key, "/")
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if !yield(name[:i+1]) {
				return
			}
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
	if err := j.await(ctx); err != nil {
		return err
	}
	return j.slot(ctx)
}

// await waits until the jobs before j are done.
func (j *job) await(ctx context.Context) error {
	for _, before := range j.after {
		j.stand(before)
		select {
		case <-before.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.after = nil
	j.stand(nil)
	return nil
}

func (j *job) stand(behind *job) {
	j.q.mu.Lock()
	defer j.q.mu.Unlock()
	j.behind = behind
}

// hold has no job talk to the store until release. None does yet.
func (q *queue) hold() {
	for range parallel {
		q.slots <- struct{}{}
	}
}

func (q *queue) release() {
	for range parallel {
		<-q.slots
	}
}

// slot takes a slot.
func (j *job) slot(ctx context.Context) error {
	select {
	case j.q.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yield gives the slot back.
func (j *job) yield() { <-j.q.slots }

// end lets those go on that wait for j, whatever came of it. When j did not wait
// for its turn, they still wait for those before it.
func (j *job) end() {
	j.q.mu.Lock()
	defer j.q.mu.Unlock()
	for _, key := range j.keys {
		if j.looks {
			break
		}
		if j.q.changes[key]--; j.q.changes[key] == 0 {
			delete(j.q.changes, key)
		}
	}
	delete(j.q.open, j)
	j.ended = true
	j.leave()
}

// leave takes j out of the order, when nothing keeps it there. The queue's mutex
// is held.
func (j *job) leave() {
	if !j.ended || j.ahead > 0 {
		return
	}
	for _, key := range j.keys {
		if j.q.tail[key] == j {
			j.q.setTail(key, nil)
		}
	}
	close(j.done)
	for _, f := range j.followers {
		f.ahead--
		f.leave()
	}
	j.followers = nil
}

// attempt returns the round in which an attempt begins, and what is closed when
// the next one begins.
func (q *queue) attempt() (round int, urged <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.round, q.urged
}

// hindered notes that an attempt of j failed, which began in round, and reports
// whether the store has refused j for the first time.
func (j *job) hindered(err error, round int, refused bool) (first bool) {
	j.q.mu.Lock()
	defer j.q.mu.Unlock()
	j.trouble = err
	if !refused {
		j.refused = 0
		return false
	}
	first = j.refused == 0
	j.refused = round
	close(j.q.refusal)
	j.q.refusal = make(chan struct{})
	return first
}

// urge has all that waits between attempts tried again now. It returns the new
// round, and the jobs that are under way.
func (q *queue) urge() (round int, jobs []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.round++
	close(q.urged)
	q.urged = make(chan struct{})
	return q.round, slices.SortedFunc(maps.Keys(q.open), inOrder)
}

func inOrder(a, b *job) int { return cmp.Compare(a.number, b.number) }

// stuck returns why j goes no further by itself, nil when it does: it was refused
// since round, or waits for one that was. refusal is closed when that may have
// changed.
func (q *queue) stuck(j *job, round int) (refusal <-chan struct{}, why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; j != nil; j = j.next() {
		if _, open := q.open[j]; open && j.refused >= round {
			return q.refusal, j.trouble
		}
	}
	return q.refusal, nil
}

// next returns the job that j waits for, nil when there is none. The queue's
// mutex is held.
func (j *job) next() *job {
	if j.behind == nil && j.inner != nil {
		return j.inner.Load()
	}
	return j.behind
}

// drain has all jobs that are under way tried now, and waits for them. When only
// such are left as the store refuses it returns why it does.
func (q *queue) drain(ctx context.Context) error {
	round, jobs := q.urge()
	for {
		stuck, err := q.pass(ctx, jobs, round)
		if err != nil || len(stuck) == 0 {
			return err
		}
		if _, why := q.stuck(stuck[0], round); why != nil && len(stuck) == len(jobs) {
			return why
		}
		jobs = stuck
	}
}

// pass waits for jobs, and returns those that are stuck.
func (q *queue) pass(ctx context.Context, jobs []*job, round int) (left []*job, err error) {
	for _, j := range jobs {
		for j.isOpen() {
			refusal, why := q.stuck(j, round)
			if why != nil {
				left = append(left, j)
				break
			}
			select {
			case <-j.done:
			case <-refusal:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return left, nil
}

func (j *job) isOpen() bool {
	select {
	case <-j.done:
		return false
	default:
		return true
	}
}

// troubled returns how many jobs have failed so far and are tried again, and why
// the first has: one that the store refuses, if there is one.
func (q *queue) troubled() (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, first := 0, (*job)(nil)
	for j := range q.open {
		if j.trouble == nil || j.looks {
			continue
		}
		if n++; first == nil || j.worse(first) {
			first = j
		}
	}
	if first == nil {
		return 0, nil
	}
	return n, first.trouble
}

func (j *job) worse(than *job) bool {
	if refused := j.refused > 0; refused != (than.refused > 0) {
		return refused
	}
	return j.number < than.number
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
