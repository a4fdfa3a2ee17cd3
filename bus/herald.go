package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
)

// Times of a herald's beacons, which let readers notice that the last message
// before a silence was lost.
const (
	firstBeacon = 2 * time.Second // after the last write
	moreBeacons = 30 * time.Second
	lastBeacon  = 5 * time.Minute
	storeQueue  = 256 // messages that wait for the stream; more are not stored
)

// A Herald announces the writes of one mount. A message counts as announced
// when the server has it: whoever asks a Feed of the same server for a fence
// afterwards hears it first. What cannot be announced stays in an outbox, the
// newest of every path, and goes before all that comes later.
type Herald struct {
	conn    *Conn
	key     *Key
	storage string
	session string
	log     *slog.Logger
	wake    chan struct{} // holds one token when Run has something to do
	flush   chan struct{} // holds one token when a round is asked for
	stored  chan kept
	refused atomic.Int64 // when the server last said that we may not, nanoseconds since 1970

	// Seal is of the key's voucher in the bucket. Set it before Run.
	Seal string

	mu      sync.Mutex // guards the rest; held while messages are put on the connection, so that numbers are in order
	seq     uint64     // of the last message
	last    time.Time  // when it was sent
	outbox  outbox
	unsure  []batch // sent, in order, and not known to have arrived
	round   *round  // asked for and not begun
	silent  bool    // the last round was not answered: the bus counts as away until one is
	settled chan struct{}
}

// A batch is what one message said.
type batch struct {
	message
	seq     uint64
	life    uint64 // of the connection that it was sent on
	changes []manifest.Write
}

// A round is one question whether the server has everything, and all who wait
// for the answer.
type round struct {
	err  error
	done chan struct{}
}

// kept is a message on its way to the stream.
type kept struct {
	message
	id string
}

// NewHerald returns a herald for one session (see NewSession) of a mount of a
// storage; key signs.
func NewHerald(c *Conn, key *Key, storage, session string, log *slog.Logger) *Herald {
	return &Herald{
		conn: c, key: key, storage: Token(storage), session: session, log: orDiscard(log),
		wake: make(chan struct{}, 1), flush: make(chan struct{}, 1), stored: make(chan kept, storeQueue),
		settled: make(chan struct{}),
	}
}

// Announce tells everybody of changes, and returns when the server has them.
// An error says that they may not have been told: they are in the outbox then,
// and Run announces them as soon as it can. While the bus is away, or does not
// answer, that is at once. The caller no longer changes changes. It needs Run.
func (h *Herald) Announce(ctx context.Context, changes []manifest.Write) error {
	h.mu.Lock()
	err := h.say(changes)
	var r *round
	if err == nil {
		r = h.ask()
	}
	h.mu.Unlock()
	if err != nil {
		poke(h.wake)
		return fmt.Errorf("announce: %w", err)
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("announce: %w", ctx.Err())
	}
}

// say sends the outbox and changes, or puts changes into the outbox. mu is held.
func (h *Herald) say(changes []manifest.Write) error {
	life := h.conn.life()
	if len(h.unsure) > 0 && h.unsure[0].life != life {
		h.doubt() // goes again before anything newer
	}
	if h.silent || !h.conn.Up() {
		h.outbox.add(changes)
		return errors.Join(ErrNotAlive, h.conn.Err())
	}
	all, lost := h.outbox.take(changes)
	if lost {
		h.seq++ // readers see the gap
	}
	runs := splitWrites(all)
	for i, run := range runs {
		if err := h.send(run, life); err != nil {
			for _, rest := range runs[i:] {
				h.outbox.add(rest)
			}
			return err
		}
	}
	return nil
}

// send says one message. mu is held.
func (h *Herald) send(changes []manifest.Write, life uint64) error {
	if len(changes) > 0 {
		h.seq++ // used up even if sending fails: it may have arrived
	}
	m, err := signWrites(h.key, manifest.Writes{
		Storage: h.storage, Seal: h.Seal, Session: h.session, Seq: h.seq, Time: time.Now(), Changes: changes,
	})
	if err != nil {
		h.log.Error("announcement dropped", "err", err)
		return nil // readers see the gap
	}
	if err := h.conn.nc.PublishMsg(m.on(liveWrites(h.storage))); err != nil {
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	h.last = time.Now()
	h.unsure = append(h.unsure, batch{m, h.seq, life, changes})
	poke(h.wake) // for the beacon
	return nil
}

// doubt puts back what may not have arrived, before what the outbox has. mu is
// held.
func (h *Herald) doubt() {
	newer, lost := h.outbox.take(nil)
	for _, b := range h.unsure {
		h.outbox.add(b.changes)
	}
	h.unsure = nil
	h.outbox.add(newer)
	h.outbox.lost = h.outbox.lost || lost
}

// ask returns the round that answers for all that was sent so far. mu is held.
func (h *Herald) ask() *round {
	if h.round == nil {
		h.round = &round{done: make(chan struct{})}
		poke(h.flush)
	}
	return h.round
}

// Flush waits until all is announced, the outbox included, while Run runs. The
// error is that of ctx.
func (h *Herald) Flush(ctx context.Context) error {
	for {
		h.mu.Lock()
		done, settled := h.outbox.empty() && len(h.unsure) == 0, h.settled
		h.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return fmt.Errorf("announce: %w", errors.Join(ctx.Err(), h.conn.Err()))
		}
	}
}

// Run does what is left undone when Announce returns, until ctx ends, and
// returns its error.
func (h *Herald) Run(ctx context.Context) error {
	defer h.conn.wait(liveWrites(h.storage), &waiter{tell: h.toldDenied()})()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.rounds(ctx) })
	g.Go(func() error { return h.catchUp(ctx) })
	g.Go(func() error { return h.store(ctx) })
	return g.Wait()
}

// toldDenied returns what is done when the server does not let us announce.
func (h *Herald) toldDenied() func(error) {
	var once sync.Once
	return func(err error) {
		h.refused.Store(time.Now().UnixNano())
		once.Do(func() {
			h.log.Warn("bus denies announcements; others find what is written here in the bucket", "err", err)
		})
	}
}

// rounds asks the server, one question at a time.
func (h *Herald) rounds(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			r, _ := h.begin()
			h.conclude(r, 0, 0, ctx.Err())
			return ctx.Err()
		case <-h.flush:
			r, upto := h.begin()
			life := h.conn.life()
			h.conclude(r, upto, life, h.question(ctx))
		}
	}
}

// question returns nil when the server has all that was sent. It gives up a second
// later than a feed that hears as little, which nobody trusts then. It asks twice:
// a process that was stopped finds its time over, with the answer just behind.
func (h *Herald) question(ctx context.Context) (err error) {
	for range 2 {
		asking, cancel := context.WithTimeout(ctx, (silence+beatEvery)/2)
		err = h.conn.nc.FlushWithContext(asking)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return err
}

// begin takes the round that is asked for, and the number of the last message
// that it is about.
func (h *Herald) begin() (r *round, upto uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, h.round = h.round, nil
	return r, h.seq
}

// conclude takes the answer to r. Messages have arrived when it came over the
// connection that they went out on; the others go again.
func (h *Herald) conclude(r *round, upto, life uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.silent
	h.silent = err != nil
	if err == nil && (h.conn.life() != life || len(h.unsure) > 0 && h.unsure[0].life != life) {
		err = errors.New("the connection was lost meanwhile")
	}
	if err != nil {
		h.doubt()
	} else {
		err = h.denied() // saying it again would be denied again
		h.arrived(upto, err == nil)
	}
	if was || h.silent || !h.outbox.empty() {
		poke(h.wake)
	}
	if h.silent { // another question would not be answered either
		h.round.end(err)
		h.round = nil
	}
	if h.outbox.empty() && len(h.unsure) == 0 {
		close(h.settled)
		h.settled = make(chan struct{})
	}
	r.end(err)
}

// end tells who waits for r, which may be nil for nobody.
func (r *round) end(err error) {
	if r == nil {
		return
	}
	if err != nil {
		r.err = fmt.Errorf("announce: %w", err)
	}
	close(r.done)
}

// arrived takes the messages up to number upto for said, and lets them be
// stored. mu is held.
func (h *Herald) arrived(upto uint64, store bool) {
	for len(h.unsure) > 0 && h.unsure[0].seq <= upto {
		b := h.unsure[0]
		h.unsure = h.unsure[1:]
		if !store {
			continue
		}
		select {
		case h.stored <- kept{b.message, fmt.Sprintf("%s-%d", h.session, b.seq)}:
		default: // the stream is slow or away; notes in the bucket have all
		}
	}
}

// denied returns the server's word that this herald may not announce. It comes
// before the answer to a round, and is told to waiters a little later. mu is
// held.
func (h *Herald) denied() error {
	err := h.conn.nc.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+liveWrites(h.storage)+`"`) {
		h.refused.Store(time.Now().UnixNano())
	}
	if time.Since(time.Unix(0, h.refused.Load())) < storeAgain {
		return fmt.Errorf("%w to publish to %s", nats.ErrPermissionViolation, liveWrites(h.storage))
	}
	return nil
}

// catchUp sends what is in the outbox when the bus is back, and beacons.
func (h *Herald) catchUp(ctx context.Context) error {
	beacon := time.NewTimer(moreBeacons)
	defer beacon.Stop()
	for wait := firstBackoff; ; {
		changed := h.conn.Changed()
		if err := h.drain(); err != nil {
			h.log.Debug("outbox not announced", "err", err, "again_in", wait)
			if err := h.rest(ctx, wait, changed); err != nil {
				return err
			}
			wait = min(2*wait, lastBackoff)
			continue
		}
		wait = firstBackoff
		h.mu.Lock()
		due := nextBeacon(time.Since(h.last))
		h.mu.Unlock()
		beacon.Reset(due)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-h.wake:
		case <-beacon.C:
			h.sayAgain()
		}
	}
}

// nextBeacon returns how long to wait for the next beacon, quiet after the last
// write.
func nextBeacon(quiet time.Duration) time.Duration {
	switch {
	case quiet < firstBeacon:
		return firstBeacon - quiet
	case quiet < lastBeacon:
		return around(moreBeacons)
	}
	return lastBeacon // it says nothing by then
}

// rest waits before sending is tried again.
func (h *Herald) rest(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	t := time.NewTimer(fullJitter(d, lastBackoff))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-t.C:
	}
	return nil
}

// drain sends what is in the outbox, when the bus is there. That nothing is
// left, it learns from the next round. A bus that did not answer is asked first
// whether it does again.
func (h *Herald) drain() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.conn.Up():
		return nil
	case h.silent:
		h.ask()
		return nil
	case h.outbox.empty():
		return nil
	}
	err := h.say(nil)
	if err == nil {
		h.ask()
	}
	return err
}

// sayAgain says how far this session has come.
func (h *Herald) sayAgain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seq > 0 && h.conn.Up() && time.Since(h.last) < lastBeacon {
		_ = h.send(nil, 0)
	}
}

// store puts messages into the stream, for tools and for readers of the past.
// Nobody waits for it, and what fails is not tried again.
func (h *Herald) store(ctx context.Context) error {
	var unstored time.Time
	for {
		var k kept
		select {
		case <-ctx.Done():
			return ctx.Err()
		case k = <-h.stored:
		}
		if !h.conn.Up() || time.Now().Before(unstored) {
			continue
		}
		err := h.conn.keep(ctx, k.on(storedWrites(h.storage)), k.id)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			err = h.conn.ensureStream(ctx)
		}
		if err != nil {
			h.log.Debug("writes not stored", "err", err)
			unstored = time.Now().Add(storeAgain)
		}
	}
}

// poke leaves a token unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
