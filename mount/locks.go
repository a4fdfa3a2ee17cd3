package mount

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Locks are locks between workers, each held by one alone or by many together.
type Locks interface {
	// Acquire takes a lock for an owner, or changes how he holds it, and reports
	// whether he got it. After an error he may hold it.
	Acquire(ctx context.Context, name, owner string, shared bool) (bool, error)
	// Release gives it back; one that is not held is no error.
	Release(ctx context.Context, name, owner string) error
	// Lost returns a channel that is closed when the locks that are held now are
	// lost, and nil while none is held.
	Lost() <-chan struct{}
}

// Times of locks.
const (
	lockPollMin = 2 * time.Millisecond // between looks at a lock that another worker holds
	lockPollMax = 250 * time.Millisecond
	lockGrace   = 5 * time.Millisecond // for a release that is on its way: the kernel sends it after close returned
	lockAgain   = time.Second          // between attempts to give a lock back
)

// locks are the flocks and POSIX locks of this mount's processes. Among these
// they have owners and ranges; for other workers the mount holds one lock of a
// whole file, as long as a process needs it.
type locks struct {
	any atomic.Int64 // files in the map; read without mu by closes, which mostly find none

	mu    sync.Mutex // guards what follows; comes last
	files map[lockID]*lock
	lost  <-chan struct{} // of the lease whose end is waited for
	life  int             // counts losses
}

// A lockID names a file, and one of its two kinds of locks, which know nothing
// of each other.
type lockID struct {
	ino   uint64
	flock bool
}

// A lock is what is held of one file.
type lock struct {
	id    lockID
	name  string // among workers
	users int    // calls that are about it

	held    []hold
	mode    lockMode      // how the mount holds it among workers
	owed    bool          // the bus may take it for more than mode
	busy    bool          // a call talks to the bus about it; nobody else changes held or mode
	again   bool          // giving it back is tried again soon
	changed chan struct{} // closed when any of that has changed, and made anew
}

type lockMode int

const (
	unlocked lockMode = iota
	lockShared
	lockAlone
)

// A hold is a range that an owner has locked through a handle.
type hold struct {
	h        *handle
	owner    uint64 // as the kernel names him
	pid      uint32
	mode     lockMode // unlocked: what is to be unlocked
	from, to uint64   // bytes; to is the last of them
}

// lockEnd is the last byte of a lock without an end.
const lockEnd = math.MaxInt64

// owner is what l is called among the owners of its name, which another file may
// have had before.
func (l *lock) owner() string { return strconv.FormatUint(l.id.ino, 10) }

func (l *lock) need() lockMode {
	most := unlocked
	for _, h := range l.held {
		most = max(most, h.mode)
	}
	return most
}

// against returns what others hold that is in the way of c, or nil.
func (l *lock) against(c hold) *hold {
	for i, h := range l.held {
		if h.owner != c.owner && h.from <= c.to && c.from <= h.to && (h.mode == lockAlone || c.mode == lockAlone) {
			return &l.held[i]
		}
	}
	return nil
}

// set gives the owner of c that range in that mode, whatever he had of it.
func (l *lock) set(c hold) {
	var held []hold
	for _, h := range l.held {
		if h.owner != c.owner || h.to < c.from || c.to < h.from {
			held = append(held, h)
			continue
		}
		if before := h; h.from < c.from {
			before.to = c.from - 1
			held = append(held, before)
		}
		if after := h; c.to < h.to {
			after.from = c.to + 1
			held = append(held, after)
		}
	}
	if c.mode != unlocked {
		held = append(held, c)
	}
	l.held = held
	l.wake()
}

func (l *lock) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// enter returns the lock of id for one call, which ends with leave.
func (m *FS) enter(id lockID, h *handle) *lock {
	m.tree.mu.RLock()
	name := string(h.file.n.path())
	m.tree.mu.RUnlock()
	ls := &m.locks
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.files[id]
	if l == nil {
		kind := "fcntl:"
		if id.flock {
			kind = "flock:"
		}
		l = &lock{id: id, name: kind + name, changed: make(chan struct{})}
		ls.files[id] = l
		ls.any.Store(int64(len(ls.files)))
	}
	l.users++
	return l
}

// leave gives back to other workers what nobody here needs any more.
func (m *FS) leave(l *lock) {
	ls := &m.locks
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.users--
	m.giveBack(l)
}

// giveBack lowers how the mount holds l to what is needed. When the bus does
// not take it, it is tried again: the lease is renewed and would keep it for
// ever. The mutex of the locks is held.
func (m *FS) giveBack(l *lock) {
	ls := &m.locks
	for !l.busy && !l.again && (l.owed || l.mode > l.need()) {
		need := l.need()
		_, err := m.swapMode(l, func() (bool, error) {
			ctx, end := context.WithTimeout(m.ctx, m.opt.Deadline)
			defer end()
			if need == unlocked {
				return true, m.opt.Locks.Release(ctx, l.name, l.owner())
			}
			return m.opt.Locks.Acquire(ctx, l.name, l.owner(), true)
		}, need)
		if err != nil {
			m.log.Warn("lock not given back yet", "name", l.name, "err", err)
		}
	}
	if l.users == 0 && len(l.held) == 0 && l.mode == unlocked && !l.owed && !l.busy && ls.files[l.id] == l {
		delete(ls.files, l.id)
		ls.any.Store(int64(len(ls.files)))
	}
}

// giveBackLater gives l back in a while: what the bus has not answered may reach
// it late, and must not come after. The mutex of the locks is held.
func (m *FS) giveBackLater(l *lock) {
	if l.again || m.ctx.Err() != nil {
		return
	}
	l.again = true
	m.group.Go(func() {
		_ = pause(m.ctx, lockAgain)
		m.locks.mu.Lock()
		defer m.locks.mu.Unlock()
		l.again = false
		m.giveBack(l)
	})
}

// swapMode has do change how the mount holds l among workers, to mode. The mutex
// of the locks is held, but not while do waits for the bus.
func (m *FS) swapMode(l *lock, do func() (bool, error), mode lockMode) (bool, error) {
	ls := &m.locks
	l.busy = true
	life := ls.life
	ls.mu.Unlock()
	got, err := do()
	lost := m.opt.Locks.Lost()
	ls.mu.Lock()
	l.busy = false
	switch {
	case err == nil && got && mode != unlocked && (life != ls.life || lost == nil):
		err = errors.New("lost as soon as it was got")
		fallthrough
	case err != nil:
		l.owed = true
		m.giveBackLater(l)
	case got:
		l.mode, l.owed = mode, false
		m.awaitLoss(lost)
	}
	l.wake()
	return got && err == nil, err
}

// awaitLoss has the locks forfeited when lost is closed. The mutex of the locks
// is held.
func (m *FS) awaitLoss(lost <-chan struct{}) {
	if lost == nil || lost == m.locks.lost {
		return
	}
	m.locks.lost = lost
	m.group.Go(func() {
		select {
		case <-m.ctx.Done():
		case <-lost:
			m.forfeit()
		}
	})
}

// forfeit ends all holds: other workers may have got the locks by now. A handle
// that held one takes no more writes, and what was written through it goes
// beside.
func (m *FS) forfeit() {
	ls := &m.locks
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.life++
	count := 0
	for _, l := range ls.files {
		for _, h := range l.held {
			count++
			h.h.forfeit.Store(true)
			if h.h.writes && h.h.file.dirty.Load() {
				h.h.file.forfeit.Store(true)
			}
		}
		l.owed = l.owed || l.mode != unlocked
		l.held, l.mode = nil, unlocked
		l.wake()
		m.giveBackLater(l)
	}
	if count > 0 {
		m.log.Error("locks are lost: the bus was away for too long; their holders must open their files again", "count", count)
	}
}

// setLock gives h what c says of a file, or takes it back. It waits for others
// until ctx ends, or answers EAGAIN at once. What the file holds is up to date
// then; what was written before a lock was given back is in the bucket.
func (m *FS) setLock(ctx context.Context, id lockID, c hold, wait bool) error {
	if c.mode == unlocked {
		return m.unlock(ctx, id, c)
	}
	if c.h.forfeit.Load() {
		return errStale
	}
	l := m.enter(id, c.h)
	defer m.leave(l)
	if err := m.obtain(ctx, l, c, wait); err != nil {
		return err
	}
	err := m.renew(ctx, c.h.file)
	if err != nil {
		c.mode = unlocked
		m.locks.mu.Lock()
		l.set(c)
		m.locks.mu.Unlock()
	}
	return err
}

func (m *FS) obtain(ctx context.Context, l *lock, c hold, wait bool) error {
	ls := &m.locks
	grace := time.NewTimer(lockGrace)
	defer grace.Stop()
	expired := grace.C
	if wait {
		expired = nil
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for poll := lockPollMin; ; {
		var err error
		switch other := l.against(c); {
		case l.busy:
			err = l.await(ctx, ls, nil)
		case other != nil:
			l.stepBack(c, wait)
			err = l.await(ctx, ls, expired)
		case l.mode >= c.mode:
			l.set(c)
			return nil
		default:
			var got bool
			if got, err = m.acquire(ctx, l, c.mode); got || err != nil {
				break
			}
			if !wait {
				return syscall.EAGAIN
			}
			l.stepBack(c, wait)
			m.giveBack(l)
			ls.mu.Unlock()
			err = pause(ctx, poll/2+rand.N(poll/2))
			ls.mu.Lock()
			poll = min(2*poll, lockPollMax)
		}
		if err != nil {
			return err
		}
	}
}

// stepBack lets go of what who waits for a flock holds of it, as flock(2) does:
// two who share it and each want it alone would wait for ever.
func (l *lock) stepBack(c hold, wait bool) {
	if l.id.flock && wait {
		c.mode = unlocked
		for _, h := range l.held {
			if h.owner == c.owner {
				l.set(c)
				return
			}
		}
	}
}

// await waits until l has changed; EAGAIN says that expired was first. The mutex
// of the locks is held, but not while it waits.
func (l *lock) await(ctx context.Context, ls *locks, expired <-chan time.Time) error {
	changed := l.changed
	ls.mu.Unlock()
	defer ls.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-expired:
		return syscall.EAGAIN
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquire asks the bus for l. An error is ENOLCK, or that ctx ended: the question
// goes on then, since the bus may have heard it, and its answer is given back.
// The mutex of the locks is held, but not while it waits.
func (m *FS) acquire(ctx context.Context, l *lock, mode lockMode) (bool, error) {
	ls := &m.locks
	var (
		got      bool
		err      error
		left     bool // nobody waits for the answer
		answered = make(chan struct{})
	)
	l.busy = true
	m.group.Go(func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		defer close(answered)
		got, err = m.swapMode(l, func() (bool, error) {
			ctx, end := context.WithTimeout(m.ctx, m.opt.Deadline)
			defer end()
			return m.opt.Locks.Acquire(ctx, l.name, l.owner(), mode == lockShared)
		}, mode)
		if left {
			m.giveBack(l)
		}
	})
	ls.mu.Unlock()
	select {
	case <-answered:
		ls.mu.Lock()
	case <-ctx.Done():
		ls.mu.Lock()
		left = true
		return false, ctx.Err()
	}
	if err != nil {
		m.log.Warn("no lock to be had from the bus", "name", l.name, "err", err)
		return false, syscall.ENOLCK
	}
	return got, nil
}

// unlock takes back what c says, when all that was written is in the bucket. It
// is taken back also when that fails.
func (m *FS) unlock(ctx context.Context, id lockID, c hold) error {
	if !m.holds(id, func(h hold) bool { return h.owner == c.owner }) {
		return nil
	}
	var err error
	if c.h.writes {
		err = m.save(ctx, c.h.file)
	}
	l := m.enter(id, c.h)
	defer m.leave(l)
	m.locks.mu.Lock()
	defer m.locks.mu.Unlock()
	l.set(c)
	return err
}

// testLock returns what is in the way of c, nil when that is nothing.
func (m *FS) testLock(ctx context.Context, id lockID, c hold) (*hold, error) {
	l := m.enter(id, c.h)
	defer m.leave(l)
	ls := &m.locks
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for {
		if other := l.against(c); other != nil {
			found := *other
			return &found, nil
		}
		if l.busy {
			if err := l.await(ctx, ls, nil); err != nil {
				return nil, err
			}
			continue
		}
		if l.mode >= c.mode {
			return nil, nil
		}
		got, err := m.acquire(ctx, l, c.mode)
		if err != nil {
			return nil, err
		}
		if !got { // of another worker nothing else is known
			return &hold{mode: lockAlone, to: lockEnd}, nil
		}
	}
}

// lockedBy reports whether the owner holds a POSIX lock of a file.
func (m *FS) lockedBy(ino, owner uint64) bool {
	return m.holds(lockID{ino: ino}, func(h hold) bool { return h.owner == owner })
}

// locked reports whether anybody here has a file locked.
func (m *FS) locked(ino uint64) bool {
	all := func(hold) bool { return true }
	return m.holds(lockID{ino, true}, all) || m.holds(lockID{ino, false}, all)
}

func (m *FS) holds(id lockID, which func(hold) bool) bool {
	ls := &m.locks
	if ls.any.Load() == 0 {
		return false
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.files[id]; l != nil {
		for _, h := range l.held {
			if which(h) {
				return true
			}
		}
	}
	return false
}

// dropLocks ends all that was locked through h.
func (m *FS) dropLocks(h *handle) {
	for _, flock := range []bool{true, false} {
		id := lockID{h.file.n.ino, flock}
		if !m.holds(id, func(x hold) bool { return x.h == h }) {
			continue
		}
		l := m.enter(id, h)
		m.locks.mu.Lock()
		var held []hold
		for _, x := range l.held {
			if x.h != h {
				held = append(held, x)
			}
		}
		l.held = held
		l.wake()
		m.locks.mu.Unlock()
		m.leave(l)
	}
}
