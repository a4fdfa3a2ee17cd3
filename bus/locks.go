package bus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// Times of locks.
const (
	lockTTL    = 15 * time.Second // after so long without a word, a holder is gone
	lockRenew  = lockTTL / 5
	lockMargin = time.Second    // a holder gives up so much earlier than others take over
	lockAge    = 24 * time.Hour // of a record nobody touches
	lockTouch  = lockAge / 4
	lockTries  = 64 // of one step while others change the same record
)

// Errors of Locks.
var (
	// ErrLockLost says that the bus was away for longer than a lease lasts:
	// somebody else may hold what was held here.
	ErrLockLost = errors.New("locks are lost: the bus was away for too long")
	// errLockBusy is what a step gets that met others too often.
	errLockBusy = errors.New("too many at once")
)

// Locks are advisory locks between workers of one storage, each held by any
// number of owners together or by one alone. They live in two buckets of the
// bus: a record for every lock that says who holds it, changed only by
// compare-and-swap, and a lease for every Locks, which expires 15 s after its
// last renewal. Whose lease has expired holds nothing. A holder that cannot
// renew is told before others can take over.
//
// They are as good as the bus: a server that forgets its store forgets them,
// and tells their holders with the next renewal.
type Locks struct {
	conn    *Conn
	storage string
	log     *slog.Logger

	mu    sync.Mutex // guards the rest; held while a lease is begun or renewed
	lease *lease     // nil before the first lock and after a loss
	held  map[string]int
}

// A lease is one stretch of time in which a Locks is known to live.
type lease struct {
	id   string
	seq  uint64 // of its last renewal
	sent time.Time
	lost chan struct{} // closed when it is over
}

// expired reports whether others may think so soon.
func (l *lease) expired() bool { return time.Since(l.sent) > lockTTL-lockMargin }

// NewLocks returns the locks of a storage. They need Run.
func NewLocks(c *Conn, storage string, log *slog.Logger) *Locks {
	return &Locks{conn: c, storage: Token(storage), log: orDiscard(log), held: map[string]int{}}
}

// Run renews the lease until ctx ends, gives it back and returns ctx's error.
func (l *Locks) Run(ctx context.Context) error {
	defer l.end()
	tick := time.NewTicker(lockRenew)
	defer tick.Stop()
	touched := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			l.renew(ctx)
			if time.Since(touched) > lockTouch {
				touched = time.Now()
				l.touch(ctx)
			}
		}
	}
}

// Lost returns a channel that is closed when the locks that are held now are
// lost, and nil while none is held.
func (l *Locks) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil || len(l.held) == 0 {
		return nil
	}
	return l.lease.lost
}

// Acquire takes the lock for an owner, together with others who share it or
// alone, and reports whether it got it. An owner who holds it already changes
// how, or goes on as before. Two owners of one process are two owners. After an
// error the lock may be held; Release gives it back.
func (l *Locks) Acquire(ctx context.Context, name, owner string, shared bool) (bool, error) {
	lease, err := l.begin(ctx)
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	me := holder{Lease: lease.id, Owner: owner}
	got, before := false, false
	err = l.change(ctx, lockKey(name), func(r *lockRecord) (err error) {
		if before = r.drop(me); !r.open(shared) {
			if r.Holders, err = l.living(ctx, lease.id, r.Holders); err != nil {
				return err
			}
		}
		if got = r.open(shared); got {
			r.Shared = shared
		}
		if got || before { // who cannot change how he holds it goes on holding it
			r.Holders = append(r.Holders, me)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	if got && !l.keep(lease, name, before) {
		return false, fmt.Errorf("lock %s: %w", name, ErrLockLost)
	}
	return got, nil
}

// keep counts a lock that was got, if the lease under which it was still lasts.
func (l *Locks) keep(lease *lease, name string, before bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease != lease || lease.expired() {
		return false
	}
	if !before {
		l.held[lockKey(name)]++
	}
	return true
}

// Release gives the lock back; one that is not held is no error.
func (l *Locks) Release(ctx context.Context, name, owner string) error {
	l.mu.Lock()
	lease := l.lease
	l.mu.Unlock()
	if lease == nil {
		return nil
	}
	held := false
	err := l.change(ctx, lockKey(name), func(r *lockRecord) error {
		held = r.drop(holder{Lease: lease.id, Owner: owner}) || held
		return nil
	})
	if err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if held && l.lease == lease {
		if l.held[lockKey(name)]--; l.held[lockKey(name)] <= 0 {
			delete(l.held, lockKey(name))
		}
	}
	return nil
}

// begin returns the lease, made anew when there is none, and not about to end.
func (l *Locks) begin(ctx context.Context) (*lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease != nil && !l.lease.expired() {
		if time.Since(l.lease.sent) < 2*lockRenew {
			return l.lease, nil
		}
		if err := l.put(ctx, l.lease); !errors.Is(err, errSwapped) {
			return l.lease, err
		}
	}
	l.lose()
	n := &lease{id: rand.Text(), lost: make(chan struct{})}
	if err := l.put(ctx, n); err != nil {
		return nil, err
	}
	l.lease = n
	return n, nil
}

// put renews a lease. A server that has lost it refuses. mu is held.
func (l *Locks) put(ctx context.Context, n *lease) error {
	subject, sent := leaseSubject(l.storage, n.id), time.Now()
	seq, err := l.conn.swap(ctx, subject, []byte(`{}`), n.seq)
	if errors.Is(err, errSwapped) {
		// Nobody else writes it: the answer to a renewal was lost, or all is.
		_, now, errRead := l.conn.read(ctx, leasesStream, subject)
		if errRead != nil || now == 0 {
			return errors.Join(err, errRead)
		}
		sent = time.Now()
		seq, err = l.conn.swap(ctx, subject, []byte(`{}`), now)
	}
	if err == nil {
		n.seq, n.sent = seq, sent
	}
	return err
}

// renew renews the lease, or tells of its end.
func (l *Locks) renew(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lease == nil:
		return
	case len(l.held) == 0 && l.lease.expired():
		l.lose() // nobody loses anything
		return
	case len(l.held) == 0:
		return // it runs out, unless it is needed again
	}
	before, cancel := context.WithDeadline(ctx, l.lease.sent.Add(lockTTL-lockMargin))
	defer cancel()
	err := l.put(before, l.lease)
	if err != nil {
		l.log.Debug("locks not renewed", "storage", l.storage, "err", err)
	}
	if errors.Is(err, errSwapped) || l.lease.expired() {
		l.log.Warn("locks are lost", "storage", l.storage, "count", len(l.held), "err", err)
		l.lose()
	}
}

// lose forgets the lease and tells who holds locks. mu is held.
func (l *Locks) lose() {
	if l.lease != nil {
		close(l.lease.lost)
	}
	l.lease = nil
	clear(l.held)
}

// touch writes the records of held locks again, so that they do not age away.
func (l *Locks) touch(ctx context.Context) {
	l.mu.Lock()
	keys := make([]string, 0, len(l.held))
	for key := range l.held {
		keys = append(keys, key)
	}
	l.mu.Unlock()
	for _, key := range keys {
		again := func(r *lockRecord) error { r.Touched = time.Now().UTC(); return nil }
		if err := l.change(ctx, key, again); err != nil {
			l.log.Debug("lock not touched", "err", err)
		}
	}
}

// end gives the lease back. The context of Run has ended by then.
func (l *Locks) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease != nil && l.conn.Up() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		if err := l.conn.purge(ctx, leaseSubject(l.storage, l.lease.id)); err != nil {
			l.log.Debug("lease not given back", "err", err)
		}
	}
	l.lose()
}

// A lockRecord says who holds a lock.
type lockRecord struct {
	Shared  bool      `json:"shared,omitempty"`
	Holders []holder  `json:"holders,omitempty"`
	Touched time.Time `json:"touched,omitzero"`
}

type holder struct {
	Lease string `json:"lease"`
	Owner string `json:"owner"`
}

// drop takes h out and reports whether it was in.
func (r *lockRecord) drop(h holder) bool {
	n := len(r.Holders)
	r.Holders = slices.DeleteFunc(r.Holders, func(x holder) bool { return x == h })
	return len(r.Holders) < n
}

// open reports whether one more may hold the lock, shared or alone.
func (r *lockRecord) open(shared bool) bool { return len(r.Holders) == 0 || shared && r.Shared }

// living returns those holders whose leases last; mine is known to.
func (l *Locks) living(ctx context.Context, mine string, holders []holder) (alive []holder, err error) {
	lasts := map[string]bool{mine: true}
	for _, h := range holders {
		if _, known := lasts[h.Lease]; !known {
			_, seq, err := l.conn.read(ctx, leasesStream, leaseSubject(l.storage, h.Lease))
			if err != nil {
				return nil, err
			}
			lasts[h.Lease] = seq > 0
		}
		if lasts[h.Lease] {
			alive = append(alive, h)
		}
	}
	return alive, nil
}

// lockKey is a lock's name in subjects. What is locked may be named anything,
// and need not be read on the bus.
func lockKey(name string) string { return manifest.Sum([]byte(name)).String()[:32] }

// change applies edit to a record, again and again while others do so too. What
// edit leaves as it was is not written.
func (l *Locks) change(ctx context.Context, key string, edit func(*lockRecord) error) error {
	for try := range lockTries {
		err := l.tryChange(ctx, lockSubject(l.storage, key), edit)
		if !errors.Is(err, errSwapped) {
			return err
		}
		if err := sleep(ctx, fullJitter(time.Millisecond<<min(try, 6), 50*time.Millisecond)); err != nil {
			return err
		}
	}
	return cmp.Or(ctx.Err(), errLockBusy)
}
