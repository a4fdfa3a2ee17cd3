package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
)

const (
	feedQueue   = 1024            // messages between the connection and verification
	lookupWait  = 2 * time.Second // for a key in the bucket
	lookupPause = 10 * time.Second
)

// A Heard is one thing that a feed has to say; one of its fields is set.
type Heard struct {
	Commit *manifest.Event  // a source committed; as a Follower tells it
	Writes *manifest.Writes // somebody wrote through a mount
	Lost   bool             // something may have been missed: look into the bucket
}

// A Feed hands out everything that is announced of one storage, verified, in
// the order in which the server passes it on. It says Lost when it first
// listens, on every new connection, after a silence, and whenever something may be
// missing, always at a moment from which on it hears everything: who reads the bucket
// after that word misses nothing.
//
// The order is that of one server. On a cluster, a fence waits for all that the
// server of this connection has; what another one has just taken is on its way.
type Feed struct {
	conn     *Conn
	storage  string
	verifier *Verifier
	log      *slog.Logger
	ignore   string // a session
	inbox    string
	msgs     chan *nats.Msg
	fences   fences

	// The rest belongs to the goroutine that listens.
	subs    []*nats.Subscription
	life    uint64
	dropped int
	spoken  spoken
	sources map[string]*slot // their events stay nil
	blind   time.Time        // until then no key is looked up: the store is away
}

// NewFeed returns a feed of a storage.
func NewFeed(c *Conn, storage string, v *Verifier, log *slog.Logger) *Feed {
	f := &Feed{
		conn: c, storage: Token(storage), verifier: v, log: orDiscard(log),
		inbox: c.nc.NewInbox(), msgs: make(chan *nats.Msg, feedQueue),
		spoken: spoken{}, sources: map[string]*slot{},
	}
	f.fences = fences{send: f.send, life: c.life, up: c.Up, missed: true, changed: make(chan struct{})}
	return f
}

// Ignore leaves out what session announces, the caller's own. Call it before Run.
func (f *Feed) Ignore(session string) { f.ignore = session }

// Run listens until ctx ends and returns its error. hear is called by one
// goroutine; while it runs nothing else is heard, fences included.
func (f *Feed) Run(ctx context.Context, hear func(Heard)) error {
	for _, subject := range []string{f.inbox, liveSubject(f.storage), liveWrites(f.storage)} {
		end, err := f.subscribe(subject)
		if err != nil {
			return err
		}
		defer end()
	}
	defer f.fences.down()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.pulse(ctx) })
	g.Go(func() error { return f.listen(ctx, hear) })
	return g.Wait()
}

// subscribe lets everything arrive on one channel, which keeps the order over
// all subjects.
func (f *Feed) subscribe(subject string) (end func(), err error) {
	forget := f.conn.wait(subject, &waiter{tell: func(err error) {
		if !strings.Contains(strings.ToLower(err.Error()), "subscription") {
			return // somebody may not publish there, on this connection
		}
		f.log.Warn("bus denies a subscription; nothing is trusted for long", "subject", subject, "err", err)
		f.fences.deny()
	}})
	sub, err := f.conn.nc.ChanSubscribe(subject, f.msgs)
	if err != nil {
		forget()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	f.subs = append(f.subs, sub)
	return func() {
		_ = sub.Unsubscribe()
		forget()
	}, nil
}

// Fence returns nil once everything that the server had when Fence was called
// was heard, and hear has returned for it. While the feed is not alive it is
// ErrNotAlive at once. Calls share round trips.
func (f *Feed) Fence(ctx context.Context) error {
	fl, err := f.fences.join()
	if err != nil {
		return err
	}
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		return fmt.Errorf("fence: %w", ctx.Err())
	}
}

// Alive reports whether a fence came back that was sent within the last 3 s, and
// every loss was told.
func (f *Feed) Alive() bool {
	f.fences.mu.Lock()
	defer f.fences.mu.Unlock()
	return f.fences.living()
}

// Changed returns a channel that is closed when Alive next changes, up to a
// second late when it is by silence. Call it before Alive.
func (f *Feed) Changed() <-chan struct{} {
	f.fences.mu.Lock()
	defer f.fences.mu.Unlock()
	return f.fences.changed
}

func (f *Feed) send(nonce uint64) error {
	return f.conn.nc.Publish(f.inbox, binary.BigEndian.AppendUint64(nil, nonce))
}

// pulse keeps fences coming.
func (f *Feed) pulse(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		changed := f.conn.Changed()
		if !f.conn.Up() {
			f.fences.down()
		} else {
			f.fences.beat()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}

func (f *Feed) listen(ctx context.Context, hear func(Heard)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-f.msgs:
			f.take(ctx, m, hear)
		}
	}
}

func (f *Feed) take(ctx context.Context, m *nats.Msg, hear func(Heard)) {
	switch m.Subject {
	case f.inbox:
		f.land(m.Data, hear)
	case liveSubject(f.storage):
		f.commit(ctx, parseMessage(m), hear)
	default:
		f.writes(ctx, parseMessage(m), hear)
	}
}

// land takes a fence that came back.
func (f *Feed) land(b []byte, hear func(Heard)) {
	if len(b) != 8 {
		return
	}
	f.notice()
	f.fences.lapse()
	nonce := binary.BigEndian.Uint64(b)
	told := f.fences.owed(nonce)
	if told {
		hear(Heard{Lost: true})
	}
	f.fences.landed(nonce, told)
}

// notice finds out whether anything was lost before the fence that just came
// back: on its way to us, since we were slow, or between two connections.
func (f *Feed) notice() {
	dropped := 0
	for _, s := range f.subs {
		if n, err := s.Dropped(); err == nil {
			dropped += n
		}
	}
	life := f.conn.life()
	if dropped != f.dropped || life != f.life {
		f.log.Debug("bus may have lost something", "storage", f.storage, "dropped", dropped-f.dropped, "connection", life)
		f.dropped, f.life = dropped, life
		f.fences.miss()
	}
}

func (f *Feed) commit(ctx context.Context, m message, hear func(Heard)) {
	by, err := f.voucher(ctx, m)
	var e manifest.Event
	if err == nil {
		e, err = open(f.storage, m, by)
	}
	if by, ok := f.again(ctx, m.writer, err); ok {
		e, err = open(f.storage, m, by)
	}
	if err == nil && !f.source(e.Source).news(e) {
		err = dropped(Stale, "generation %d of %s", e.Generation, e.Source)
	}
	if err != nil {
		f.drop(err)
		return
	}
	hear(Heard{Commit: &e})
}

func (f *Feed) source(name string) *slot {
	if f.sources[name] == nil {
		f.sources[name] = new(slot)
	}
	return f.sources[name]
}

func (f *Feed) writes(ctx context.Context, m message, hear func(Heard)) {
	by, err := f.voucher(ctx, m)
	var w manifest.Writes
	if err == nil {
		w, err = openWrites(f.storage, m, by)
	}
	if by, ok := f.again(ctx, m.writer, err); ok {
		w, err = openWrites(f.storage, m, by)
	}
	if err != nil {
		f.drop(err)
		return
	}
	if w.Session != f.ignore {
		f.judge(w, hear)
	}
}

func (f *Feed) judge(w manifest.Writes, hear func(Heard)) {
	v := f.spoken.judge(w, time.Now())
	switch v {
	case stale, ancient:
		f.drop(dropped(Stale, "%d of session %s of writer %s", w.Seq, w.Session, w.Writer))
	case gap:
		hear(Heard{Lost: true})
	}
	if v == ancient {
		f.fences.miss()
	}
	if (v == news || v == gap) && len(w.Changes) > 0 {
		hear(Heard{Writes: &w})
	}
}

// voucher returns the voucher of m's writer. It looks in the bucket for one that
// is new to us, and nothing passes by meanwhile: a fence that was sent after m
// must not come back before m was judged. What cannot be judged may be true, and
// lost.
func (f *Feed) voucher(ctx context.Context, m message) (voucher, error) {
	if by, ok := f.verifier.known(m.writer); ok {
		return by, m.check()
	}
	if err := m.check(); err != nil {
		return voucher{}, err
	}
	if err := f.verifier.refused(m.writer); err != nil {
		f.fences.miss() // the key may have been stored since we asked
		return voucher{}, err
	}
	if time.Now().Before(f.blind) {
		f.fences.miss()
		return voucher{}, dropped(Unavailable, "writer %s", m.writer)
	}
	return f.lookup(ctx, m)
}

// again is the verifier's, for as long as a feed may wait.
func (f *Feed) again(ctx context.Context, writer string, err error) (voucher, bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	return f.verifier.again(ctx, writer, err)
}

func (f *Feed) lookup(ctx context.Context, m message) (voucher, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	by, err := f.verifier.voucherOf(ctx, m)
	var d *drop
	if errors.As(err, &d) && d.reason == Unavailable {
		f.blind = time.Now().Add(lookupPause)
	}
	if d != nil && d.reason != UnknownWriter {
		f.fences.miss()
	}
	return by, err
}

func (f *Feed) drop(err error) {
	f.verifier.count(err)
	f.log.Debug("message dropped", "storage", f.storage, "err", err)
}
