package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/manifest"
)

// Times of presence.
const (
	presenceTTL   = time.Minute      // without a word for so long, a client is gone
	presenceEvery = 20 * time.Second // so that two words may be lost
	presenceGap   = time.Second      // between two reports of changes
	leaveTimeout  = time.Second      // to say good-bye at a clean exit
)

// A Presence says who is on a storage and how far. It is not signed: whoever
// may publish it may lie about itself, so it informs people and nothing else.
// Nor is it sealed: buckets with one token share it.
type Presence struct {
	ID         string         `json:"id"`
	Role       string         `json:"role"` // "watch", "copy" or "mount"
	Host       string         `json:"host"`
	PID        int            `json:"pid"`
	Mode       string         `json:"mode,omitempty"` // of a worker: "COPY" or "MOUNT"
	Path       string         `json:"path"`
	Source     string         `json:"source,omitempty"`
	Epoch      manifest.Epoch `json:"epoch,omitempty"`
	Generation uint64         `json:"generation"` // committed by a watch, applied by a worker
	State      string         `json:"state"`
	Partial    bool           `json:"partial,omitempty"` // some files of Generation are missing
	Dirty      int            `json:"dirty,omitempty"`   // files
	Skipped    int            `json:"skipped,omitempty"` // files
	Failed     int            `json:"failed,omitempty"`  // files
	Started    time.Time      `json:"started"`
	Seen       time.Time      `json:"seen"` // when it was reported, by its own clock
}

// IsWorker reports whether p follows a source, rather than watches one.
func (p Presence) IsWorker() bool { return p.Role != "watch" }

// reached reports whether p has applied t or something later.
func (p Presence) reached(t Target) bool {
	return p.Epoch == t.Epoch && p.Source == t.Source && p.Generation >= t.Generation
}

// An ack says that a worker has applied a generation.
type ack struct {
	Source     string         `json:"source"`
	Epoch      manifest.Epoch `json:"epoch"`
	Generation uint64         `json:"generation"`
	Partial    bool           `json:"partial,omitempty"`
}

func (p Presence) ack() ack { return ack{p.Source, p.Epoch, p.Generation, p.Partial} }

// A Reporter keeps one client's presence on the bus, and acknowledges what it
// has applied.
type Reporter struct {
	conn    *Conn
	storage string
	log     *slog.Logger
	wake    chan struct{} // holds one token when the state has changed

	mu    sync.Mutex // guards state
	state Presence
}

// NewReporter returns a reporter for the client that p describes; p.ID is its
// name in subjects.
func NewReporter(c *Conn, storage string, p Presence, log *slog.Logger) *Reporter {
	p.ID = Token(p.ID)
	return &Reporter{conn: c, storage: Token(storage), state: p, log: orDiscard(log), wake: make(chan struct{}, 1)}
}

// Update changes the state to be reported and returns. A new generation is
// acknowledged at once, the rest follows within a second.
func (r *Reporter) Update(change func(*Presence)) {
	r.mu.Lock()
	id := r.state.ID
	change(&r.state)
	r.state.ID = id
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends, says good-bye, and returns ctx's error.
func (r *Reporter) Run(ctx context.Context) error {
	defer r.leave()
	var (
		acked    ack
		reported time.Time
		session  uint64
		due      = time.NewTimer(0)
	)
	defer due.Stop()
	for {
		changed := r.conn.Changed()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
			acked = r.acknowledge(acked)
			due.Reset(max(0, presenceGap-time.Since(reported)))
		case <-changed:
			if s := r.conn.sessions(); s != session {
				// Nobody behind a new server has heard of us. A thousand
				// workers tell it, but not all at once.
				session, acked = s, ack{}
				due.Reset(fullJitter(presenceGap/2, presenceGap))
			}
		case <-due.C:
			acked = r.acknowledge(acked)
			r.report(ctx)
			reported = time.Now()
			due.Reset(around(presenceEvery))
		}
	}
}

// acknowledge says what is applied unless that is acked already, and returns
// what has been said last.
func (r *Reporter) acknowledge(acked ack) ack {
	p := r.presence()
	if a := p.ack(); a != acked && p.IsWorker() && r.conn.Up() {
		b, err := json.Marshal(a)
		if err == nil && r.conn.nc.Publish(ackSubject(r.storage, p.ID), b) == nil {
			return a
		}
	}
	return acked
}

func (r *Reporter) presence() Presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// report puts the presence, and makes the bucket for it when there is none and
// the server lets us.
func (r *Reporter) report(ctx context.Context) {
	if !r.conn.Up() {
		return
	}
	err := r.put(ctx)
	if errors.Is(err, nats.ErrNoResponders) {
		if err = r.conn.ensureWorkers(ctx); err == nil {
			err = r.put(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.log.Debug("presence not reported", "err", err)
	}
}

func (r *Reporter) put(ctx context.Context) error {
	p := r.presence()
	p.Seen = time.Now().UTC()
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode presence: %w", err)
	}
	m := nats.NewMsg(presenceSubject(r.storage, p.ID))
	m.Data = b
	_, err = r.conn.request(ctx, m)
	return err
}

// leave removes the presence, as a KV client would purge its key. The context
// of Run has ended by then, so it takes its own.
func (r *Reporter) leave() {
	if !r.conn.Up() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	m := nats.NewMsg(presenceSubject(r.storage, r.presence().ID))
	m.Header.Set("KV-Operation", "PURGE")
	m.Header.Set("Nats-Rollup", "sub")
	if _, err := r.conn.request(ctx, m); err != nil {
		r.log.Debug("presence not removed", "err", err)
	}
}
