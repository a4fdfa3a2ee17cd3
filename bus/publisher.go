package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skyagent/skyagent/manifest"
)

// Times of a publisher.
const (
	beaconEvery  = 30 * time.Second // says the newest event again, without changes
	storeAgain   = time.Minute      // a server without a stream is asked again
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 15 * time.Second
)

// A Publisher announces the commits of one source. Its outbox holds one event,
// the newest: workers that miss a generation read the log.
type Publisher struct {
	conn    *Conn
	key     *Key
	storage string
	log     *slog.Logger
	wake    chan struct{} // holds one token when the outbox has changed

	// Published is called for every event that the server has; nil is nobody.
	// Set it before Run.
	Published func()

	mu     sync.Mutex      // guards the rest
	outbox *manifest.Event // announced and not yet published
	empty  chan struct{}   // closed when the outbox becomes empty; nil while it is

	// The rest belongs to Run.
	last       message // the newest event that was published
	lastID     string
	beacon     *manifest.Event // the same, without its changes
	unstored   time.Time
	session    uint64 // of the connection that last was published on
	knownStore bool   // the stream was looked at
}

// NewPublisher returns a publisher for one source of a storage; key signs.
func NewPublisher(c *Conn, key *Key, storage string, log *slog.Logger) *Publisher {
	return &Publisher{conn: c, key: key, storage: Token(storage), log: orDiscard(log), wake: make(chan struct{}, 1)}
}

// Announce puts e into the outbox, in place of what is there, and returns. The
// storage and the writer of e are filled in, the seal is not; the caller no
// longer changes its changes.
func (p *Publisher) Announce(e manifest.Event) {
	e.Storage = p.storage
	p.mu.Lock()
	p.outbox = &e
	if p.empty == nil {
		p.empty = make(chan struct{})
	}
	p.mu.Unlock()
	p.poke()
}

func (p *Publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default: // a token is there already
	}
}

// Flush waits until everything announced is published, while Run runs. The
// error is that of ctx.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	empty := p.empty
	p.mu.Unlock()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("announce: %w", errors.Join(ctx.Err(), p.conn.Err()))
	}
}

// Run publishes until ctx ends, for ever with back-off. It returns ctx's error.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.conn.wait(liveSubject(p.storage), &waiter{tell: p.warnOnce()})()
	beacon := time.NewTimer(around(beaconEvery))
	defer beacon.Stop()
	for {
		changed := p.conn.Changed()
		if p.conn.Up() {
			p.publish(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-p.wake:
		case <-beacon.C:
			p.sayAgain()
			beacon.Reset(around(beaconEvery))
		}
	}
}

// warnOnce returns what is done when the server does not let us announce.
func (p *Publisher) warnOnce() func(error) {
	var once sync.Once
	return func(err error) {
		once.Do(func() { p.log.Warn("bus denies announcements; workers poll the log", "err", err) })
	}
}

// sayAgain tells workers that missed the newest event, and whose server keeps
// none, that there was one.
func (p *Publisher) sayAgain() {
	if p.beacon == nil || !p.conn.Up() {
		return
	}
	if m, err := sign(p.key, *p.beacon); err == nil {
		_ = p.conn.nc.PublishMsg(m.on(liveSubject(p.storage)))
	}
}

// publish empties the outbox, and repeats the last event on a connection that
// has not had it: the server behind it may have lost its store.
func (p *Publisher) publish(ctx context.Context) {
	session := p.conn.sessions()
	if session != p.session {
		p.unstored, p.knownStore = time.Time{}, false
	}
	for wait := firstBackoff; ctx.Err() == nil && p.conn.Up(); wait = min(2*wait, lastBackoff) {
		e := p.peek()
		if e == nil && (session == p.session || p.last.body == nil) {
			p.session = session
			return
		}
		err := p.publishNext(ctx, e)
		if err == nil {
			p.session = session
			wait = firstBackoff / 2
			continue
		}
		p.log.Debug("event not published", "err", err, "again_in", wait)
		p.pause(ctx, fullJitter(wait, lastBackoff))
	}
}

// publishNext publishes e, or the last event when e is nil.
func (p *Publisher) publishNext(ctx context.Context, e *manifest.Event) error {
	if e == nil {
		return p.send(ctx, p.last, p.lastID)
	}
	m, err := sign(p.key, *e)
	if err != nil {
		p.log.Error("event dropped", "err", err)
		p.done(e)
		return nil
	}
	id := fmt.Sprintf("%s-%s-%d", Token(e.Source), e.Epoch, e.Generation)
	if err := p.send(ctx, m, id); err != nil {
		return err
	}
	bare := *e
	bare.Changes = nil
	p.last, p.lastID, p.beacon = m, id, &bare
	p.done(e)
	if p.Published != nil {
		p.Published()
	}
	return nil
}

// pause waits for d, a newer event or a change of the connection.
func (p *Publisher) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-p.wake:
	case <-p.conn.Changed():
	}
}

// peek returns what is in the outbox, or nil.
func (p *Publisher) peek() *manifest.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outbox
}

// done takes e out of the outbox, unless a newer event has taken its place.
func (p *Publisher) done(e *manifest.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outbox == e {
		p.outbox = nil
		close(p.empty)
		p.empty = nil
	}
}

// send says m live, then stores it for those who come later. Live first:
// workers wait neither for a disk nor for a quorum. Where nothing can be
// stored, a round trip proves at least that the server has it.
func (p *Publisher) send(ctx context.Context, m message, id string) error {
	if err := p.conn.nc.PublishMsg(m.on(liveSubject(p.storage))); err != nil {
		return err
	}
	if time.Now().After(p.unstored) {
		err := p.store(ctx, m, id)
		if err == nil || !hopeless(err) {
			return err
		}
		p.log.Warn("bus stores no events; workers that miss one find it in the log", "err", err)
		p.unstored = time.Now().Add(storeAgain)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return p.conn.nc.FlushWithContext(ctx)
}

// store puts m into the stream, which it makes when there is none.
func (p *Publisher) store(ctx context.Context, m message, id string) error {
	err := p.put(ctx, m, id)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		if err := p.conn.ensureStream(ctx); err != nil {
			return err
		}
		err = p.put(ctx, m, id)
	}
	if err == nil && !p.knownStore {
		p.knownStore = true
		if err := p.conn.ensureStream(ctx); err != nil {
			p.log.Debug("stream left as it is", "err", err)
		}
	}
	return err
}

func (p *Publisher) put(ctx context.Context, m message, id string) error {
	return p.conn.keep(ctx, m.on(storedSubject(p.storage)), id)
}

// keep puts n into the stream.
func (c *Conn) keep(ctx context.Context, n *nats.Msg, id string) error {
	ctx, end := c.asking(ctx, n.Subject)
	defer end()
	_, err := c.js.PublishMsg(ctx, n, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
	if err != nil {
		return fmt.Errorf("store event %s: %w", id, denied(ctx, err))
	}
	return nil
}

// hopeless reports whether asking again soon is in vain: the server has no
// JetStream, forbids it, or refuses the stream or the event. What remains is
// silence and disconnects, which pass.
func hopeless(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) ||
		errors.Is(err, nats.ErrPermissionViolation) ||
		errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount)
}
