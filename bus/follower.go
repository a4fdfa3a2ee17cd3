package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
)

// Bounds of a follower's queues. What does not fit is dropped; the next
// catch-up finds the newest event again.
const (
	catchUpEvery  = 30 * time.Second
	storedBy      = time.Second // what is live now is stored by then, as a rule
	strangers     = 16          // messages that wait for their writer's key
	pendingEvents = 256         // messages between the connection and verification
	pendingBytes  = 8 << 20     // of those
)

// A Follower receives the events of one storage, verified, the newest of every
// source.
type Follower struct {
	conn     *Conn
	storage  string
	verifier *Verifier
	log      *slog.Logger
	box      *mailbox
	unknown  chan message // whose voucher must be looked up
}

// NewFollower returns a follower of a storage.
func NewFollower(c *Conn, storage string, v *Verifier, log *slog.Logger) *Follower {
	return &Follower{
		conn: c, storage: Token(storage), verifier: v, log: orDiscard(log),
		box: newMailbox(), unknown: make(chan message, strangers),
	}
}

// Next waits for an event that is newer than all that it returned before for
// the same source and epoch. One goroutine calls it.
func (f *Follower) Next(ctx context.Context) (manifest.Event, error) { return f.box.take(ctx) }

// Run receives until ctx ends and returns its error. A server that refuses the
// subscription does not end it: the newest event is then found by catching up.
func (f *Follower) Run(ctx context.Context) error {
	end, err := f.conn.subscribe(liveSubject(f.storage), f.receive)
	if err != nil {
		return err
	}
	defer end()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.resolve(ctx) })
	g.Go(func() error { return f.catchUp(ctx) })
	return g.Wait()
}

// receive runs in NATS's goroutine, so it decides at once what needs no network
// and leaves the rest to resolve. Events of writers we know never wait behind
// made-up ones.
func (f *Follower) receive(n *nats.Msg) {
	m := parseMessage(n)
	if err := m.check(); err != nil {
		f.drop(err)
		return
	}
	if by, ok := f.verifier.known(m.writer); ok {
		e, err := open(f.storage, m, by)
		if !f.verifier.outdated(m.writer, err) {
			f.deliver(e, err)
			return
		}
	}
	if err := f.verifier.refused(m.writer); err != nil {
		f.drop(err)
		return
	}
	select {
	case f.unknown <- m:
	default:
		f.drop(dropped(Limited, "writer %s", m.writer))
	}
}

// resolve verifies messages of writers that are new to us.
func (f *Follower) resolve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-f.unknown:
			f.deliver(f.verifier.verify(ctx, f.storage, m))
		}
	}
}

func (f *Follower) deliver(e manifest.Event, err error) {
	if err == nil && !f.box.put(e) {
		err = dropped(Stale, "generation %d of %s", e.Generation, e.Source)
	}
	if err != nil {
		f.drop(err)
	}
}

func (f *Follower) drop(err error) {
	f.verifier.count(err)
	f.log.Debug("event dropped", "storage", f.storage, "err", err)
}

// catchUp asks for the newest stored event at the start, on every new
// connection, and now and then. After a connection it asks twice: an event that
// was live just before we subscribed may be stored only after we asked.
func (f *Follower) catchUp(ctx context.Context) error {
	var session uint64
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		changed := f.conn.Changed()
		if s := f.conn.sessions(); s != session {
			session = s
			f.getLast(ctx)
			due.Reset(around(storedBy))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-due.C:
			f.getLast(ctx)
			due.Reset(around(catchUpEvery))
		}
	}
}

// getLast fetches the newest stored event. The subject is part of the request,
// so that a server can permit a worker this storage and no other.
func (f *Follower) getLast(ctx context.Context) {
	if !f.conn.Up() {
		return
	}
	subject := f.conn.api + "DIRECT.GET." + StreamName + "." + storedSubject(f.storage)
	n, err := f.conn.request(ctx, nats.NewMsg(subject))
	if err != nil {
		if !errors.Is(err, nats.ErrNoResponders) && ctx.Err() == nil {
			f.log.Debug("no last event", "storage", f.storage, "err", err)
		}
		return
	}
	if n.Header.Get("Status") != "" {
		return // 404: nothing was announced yet
	}
	e, err := f.verifier.verify(ctx, f.storage, parseMessage(n))
	if err == nil {
		f.box.put(e) // an event we have is the usual case here, not a replay
		return
	}
	f.drop(err)
}
