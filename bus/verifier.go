package bus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/skyagent/skyagent/manifest"
)

// A Reason says why a message was dropped. It fits a metric's label.
type Reason string

// The reasons.
const (
	Unsigned      Reason = "unsigned"
	Forged        Reason = "forged"         // the signature is not the writer's
	UnknownWriter Reason = "unknown_writer" // the bucket has no such key, or another one
	WrongStorage  Reason = "wrong_storage"
	Malformed     Reason = "malformed"
	Oversized     Reason = "oversized"
	Stale         Reason = "stale"       // a duplicate, late or replayed
	Limited       Reason = "limited"     // too many unknown writers at once
	Unavailable   Reason = "unavailable" // the writer's key could not be read
)

// An Observer is told of every dropped message; it must be quick. Nil is none.
type Observer func(Reason)

// A KeyLookup returns the content of .skyagent/writers/<id>, or an error that
// is fs.ErrNotExist when there is none.
type KeyLookup func(ctx context.Context, writerID string) ([]byte, error)

// Limits of lookups: a storm of forged events with made-up writers must not
// become a storm of requests to the bucket.
const (
	lookupAgain   = 10 * time.Second // for one writer, after a failure
	lookupRate    = 2                // a second, for all writers
	lookupBurst   = 8
	maxRemembered = 1024 // failures; the rate holds beyond
)

// A Verifier decides whether a message is an event of a writer who may write
// the bucket. Keys that were found are kept for good, since an id names one key
// for ever. It is safe for many goroutines.
type Verifier struct {
	lookup  KeyLookup
	observe Observer
	limit   *rate.Limiter
	looking chan struct{} // holds one token: one lookup at a time

	mu     sync.Mutex // guards the rest
	keys   map[string]ed25519.PublicKey
	failed map[string]failure
}

// failure is what the last lookup of a writer came to.
type failure struct {
	reason Reason
	again  time.Time // not before
}

// NewVerifier returns a verifier that finds keys by lookup.
func NewVerifier(lookup KeyLookup, observe Observer) *Verifier {
	if observe == nil {
		observe = func(Reason) {}
	}
	return &Verifier{
		lookup: lookup, observe: observe,
		limit:   rate.NewLimiter(lookupRate, lookupBurst),
		looking: make(chan struct{}, 1),
		keys:    map[string]ed25519.PublicKey{},
		failed:  map[string]failure{},
	}
}

// drop is an error with the reason that an Observer hears.
type drop struct {
	reason Reason
	err    error
}

func (d *drop) Error() string { return fmt.Sprintf("%s: %v", d.reason, d.err) }
func (d *drop) Unwrap() error { return d.err }

func dropped(r Reason, format string, v ...any) error {
	return &drop{r, fmt.Errorf(format, v...)}
}

// count tells the observer about a dropped message.
func (v *Verifier) count(err error) {
	var d *drop
	if errors.As(err, &d) {
		v.observe(d.reason)
	}
}

// check looks at what can be judged without a key, in the order of cost.
func (m message) check() error {
	switch {
	case len(m.body) > MaxEvent:
		return dropped(Oversized, "%d bytes", len(m.body))
	case m.writer == "" || len(m.signature) == 0:
		return dropped(Unsigned, "no writer or no signature")
	case !validWriter(m.writer):
		return dropped(Malformed, "writer %q", m.writer) // never becomes a key in the bucket
	}
	return nil
}

func validWriter(id string) bool { return hexadecimal(id, idLen) }

// known returns the key of a writer if no lookup is needed for it.
func (v *Verifier) known(writer string) (ed25519.PublicKey, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.keys[writer]
	return k, ok
}

// refused returns the verdict on a writer whose lookup failed a moment ago.
func (v *Verifier) refused(writer string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	f, ok := v.failed[writer]
	if ok && time.Now().Before(f.again) {
		return dropped(f.reason, "writer %s", writer)
	}
	return nil
}

// verify returns the event in m, or an error with the reason to drop it. It may
// ask the bucket for the writer's key.
func (v *Verifier) verify(ctx context.Context, storage string, m message) (manifest.Event, error) {
	key, err := v.keyOf(ctx, m)
	if err != nil {
		return manifest.Event{}, err
	}
	return open(storage, m, key)
}

// keyOf returns the key that m must be signed with.
func (v *Verifier) keyOf(ctx context.Context, m message) (ed25519.PublicKey, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	return v.key(ctx, m.writer)
}

// open returns the event in m if key signed it for storage.
func open(storage string, m message, key ed25519.PublicKey) (manifest.Event, error) {
	signed := ed25519.Verify(key, signedMessage(ofCommit, storage, m.body), m.signature)
	e, err := Decode(m.body)
	switch {
	case err == nil && e.Storage != storage:
		return manifest.Event{}, dropped(WrongStorage, "an event of storage %q", e.Storage)
	case !signed:
		return manifest.Event{}, dropped(Forged, "not signed by writer %s", m.writer)
	case err != nil:
		return manifest.Event{}, &drop{Malformed, err}
	case e.Writer != m.writer:
		return manifest.Event{}, dropped(Malformed, "an event of writer %q in the name of %s", e.Writer, m.writer)
	}
	return e, nil
}

// openWrites returns the writes in m if key signed them for storage.
func openWrites(storage string, m message, key ed25519.PublicKey) (manifest.Writes, error) {
	signed := ed25519.Verify(key, signedMessage(ofObject, storage, m.body), m.signature)
	w, err := DecodeWrites(m.body)
	switch {
	case err == nil && w.Storage != storage:
		return manifest.Writes{}, dropped(WrongStorage, "writes to storage %q", w.Storage)
	case !signed:
		return manifest.Writes{}, dropped(Forged, "not signed by writer %s", m.writer)
	case err != nil:
		return manifest.Writes{}, &drop{Malformed, err}
	case w.Writer != m.writer:
		return manifest.Writes{}, dropped(Malformed, "writes of %q in the name of %s", w.Writer, m.writer)
	}
	return w, nil
}

// key returns a writer's key, from memory or by one lookup at a time.
func (v *Verifier) key(ctx context.Context, writer string) (ed25519.PublicKey, error) {
	if k, ok := v.known(writer); ok {
		return k, nil
	}
	select {
	case v.looking <- struct{}{}:
		defer func() { <-v.looking }()
	case <-ctx.Done():
		return nil, dropped(Unavailable, "writer %s: %w", writer, ctx.Err())
	}
	if k, ok := v.known(writer); ok {
		return k, nil // somebody else was asking for it
	}
	if err := v.refused(writer); err != nil {
		return nil, err
	}
	if !v.limit.Allow() {
		return nil, dropped(Limited, "writer %s", writer)
	}
	return v.find(ctx, writer)
}

// find asks the bucket and remembers the answer.
func (v *Verifier) find(ctx context.Context, writer string) (ed25519.PublicKey, error) {
	public, err := v.lookup(ctx, writer)
	reason := UnknownWriter
	var key ed25519.PublicKey
	if err == nil {
		key, err = parsePublic(writer, public)
	} else if !errors.Is(err, fs.ErrNotExist) {
		reason = Unavailable
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.keys[writer] = key
		delete(v.failed, writer)
		return key, nil
	}
	v.forget()
	v.failed[writer] = failure{reason, time.Now().Add(lookupAgain)}
	return nil, dropped(reason, "writer %s: %w", writer, err)
}

// forget makes room for one more failure. mu is held.
func (v *Verifier) forget() {
	if len(v.failed) < maxRemembered {
		return
	}
	now := time.Now()
	for id, f := range v.failed {
		if now.After(f.again) {
			delete(v.failed, id)
		}
	}
	if len(v.failed) >= maxRemembered {
		clear(v.failed)
	}
}
