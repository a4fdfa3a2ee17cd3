package syncer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

const (
	leaseTime  = 30 * time.Second // how long a lease holds without a renewal
	leaseRenew = leaseTime / 3
)

// A Holder says who watches a source.
type Holder struct {
	Writer  string    `json:"writer"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Root    string    `json:"root"`
	Started time.Time `json:"started"`
	Until   time.Time `json:"until"` // zero when it was given back
}

// A HeldError says that somebody else watches the source, or was the last to.
type HeldError struct {
	Source string
	Holder Holder
	Live   bool // the lease has not run out
}

func (e *HeldError) Error() string {
	if e.Live {
		return fmt.Sprintf("source %q is watched by %s (pid %d, %s) since %s", e.Source,
			e.Holder.Host, e.Holder.PID, e.Holder.Root, e.Holder.Started.Format(time.DateTime))
	}
	return fmt.Sprintf("source %q was last watched by another agent: %s (%s)", e.Source, e.Holder.Host, e.Holder.Root)
}

// A lease is the polite half of keeping two watches off one source: it names
// the other one. The log's put-if-absent is what protects.
type lease struct {
	store objstore.Store
	key   string
	id    string // the source's
	me    Holder
	rev   objstore.Rev // of our own record; "" when we have none
	now   func() time.Time
}

func newLease(store objstore.Store, source string, me Holder) *lease {
	return &lease{store: store, key: manifest.SourcePrefix(source) + "lease", id: source, me: me, now: time.Now}
}

// LeaseHolder returns who watches source, or was the last to; fs.ErrNotExist
// says that nobody ever did.
func LeaseHolder(ctx context.Context, store objstore.Store, source string) (Holder, error) {
	holder, _, err := newLease(store, source, Holder{}).read(ctx)
	return holder, err
}

// take acquires the lease. takeover allows to replace an agent that is gone.
func (l *lease) take(ctx context.Context, takeover bool) error {
	holder, rev, err := l.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return l.write(ctx, objstore.Cond{Absent: true}, l.now().Add(leaseTime))
	}
	if err != nil {
		return err
	}
	live := l.now().Before(holder.Until)
	if !l.mine(holder) && (live || !takeover) {
		return &HeldError{Source: l.id, Holder: holder, Live: live}
	}
	return l.write(ctx, objstore.Cond{If: rev}, l.now().Add(leaseTime))
}

// mine reports whether a lease of h may be taken without asking: one for the
// same directory whose agent is gone. The caller holds the lock on the state
// of that directory, so an agent with the same key is; one with another key on
// this host is when it said so or its process has ended. A damaged lease names nobody.
func (l *lease) mine(h Holder) bool {
	if h == (Holder{}) {
		return true
	}
	if h.Root != l.me.Root {
		return false
	}
	return h.Writer == l.me.Writer || h.Host == l.me.Host && (h.Until.IsZero() || !alive(h.PID))
}

func (l *lease) read(ctx context.Context) (Holder, objstore.Rev, error) {
	var h Holder
	body, info, err := l.store.Get(ctx, l.key, 0, -1, objstore.Cond{})
	if err != nil {
		return h, "", fmt.Errorf("read lease: %w", err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return h, "", fmt.Errorf("read lease: %w", err)
	}
	if json.Unmarshal(b, &h) != nil {
		h = Holder{} // damaged: nobody can be named, and the log still protects
	}
	return h, info.Rev, nil
}

func (l *lease) write(ctx context.Context, cond objstore.Cond, until time.Time) error {
	l.me.Until = until
	b, err := json.Marshal(l.me)
	if err != nil {
		return err
	}
	info, err := l.store.Put(ctx, l.key, bytes.NewReader(b), int64(len(b)), objstore.PutOptions{Cond: cond})
	if errors.Is(err, objstore.ErrPrecondition) {
		return l.lost(ctx)
	}
	if err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	l.rev = info.Rev
	return nil
}

// ErrLeaseGone says that the lease of a running watch is no longer in the
// bucket: somebody emptied it, and what else is missing nobody knows.
var ErrLeaseGone = errors.New("the watch's lease is gone from the bucket: somebody removed what was there")

// lost finds out why a conditional write did not hold: somebody else wrote, or
// an answer to our own write was lost.
func (l *lease) lost(ctx context.Context) error {
	holder, rev, err := l.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrLeaseGone
	}
	if err != nil {
		return err
	}
	if holder.Writer == l.me.Writer && holder.PID == l.me.PID {
		l.rev = rev
		return nil
	}
	return &HeldError{Source: l.id, Holder: holder, Live: true}
}

// keep renews the lease until ctx ends. It returns a *HeldError when somebody
// took it; a store that is away is no reason to stop.
func (l *lease) keep(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := l.write(ctx, objstore.Cond{If: l.rev}, l.now().Add(leaseTime))
		var held *HeldError
		if errors.As(err, &held) || errors.Is(err, ErrLeaseGone) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("lease not renewed", "err", err)
		}
	}
}

// release gives the lease back.
func (l *lease) release(ctx context.Context) error {
	if l.rev == "" {
		return nil
	}
	return l.write(ctx, objstore.Cond{If: l.rev}, time.Time{})
}
