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
	OtherBucket   Reason = "other_bucket" // of the same name, by a writer of both
	Malformed     Reason = "malformed"
	Oversized     Reason = "oversized"
	Stale         Reason = "stale"       // a duplicate, late or replayed
	Limited       Reason = "limited"     // too many unknown writers at once
	Unavailable   Reason = "unavailable" // the writer's key could not be read
)

// An Observer is told of every dropped message; it must be quick. Nil is none.
type Observer func(Reason)

// A VoucherLookup returns the content of .skyagent/writers/<id>, or an error
// that is fs.ErrNotExist when there is none.
type VoucherLookup func(ctx context.Context, writerID string) ([]byte, error)

// Limits of lookups: a storm of forged events with made-up writers must not
// become a storm of requests to the bucket.
const (
	lookupAgain   = 10 * time.Second // for one writer, after a failure
	lookupRate    = 2                // a second, for all writers
	lookupBurst   = 8
	sealAgain     = time.Minute // for one writer, when its seal is another one
	maxRemembered = 1024        // failures; the rate holds beyond
)

// A Verifier decides whether a message is an event of a writer who may write
// the bucket, and meant for it. Vouchers that were found are kept, since an id
// names one key for ever; one is looked up again, now and then, when its writer
// uses another seal: the bucket may have been made anew. It is safe for many
// goroutines.
type Verifier struct {
	lookup  VoucherLookup
	observe Observer
	limit   *rate.Limiter
	looking chan struct{} // holds one token: one lookup at a time

	mu     sync.Mutex // guards the rest
	found  map[string]voucher
	failed map[string]failure
}

// A voucher is a manifest.Voucher whose key is one.
type voucher struct {
	key   ed25519.PublicKey
	seal  string
	asked time.Time // when the bucket was asked for it last
}

// failure is what the last lookup of a writer came to.
type failure struct {
	reason Reason
	again  time.Time // not before
}

// NewVerifier returns a verifier that finds vouchers by lookup.
func NewVerifier(lookup VoucherLookup, observe Observer) *Verifier {
	if observe == nil {
		observe = func(Reason) {}
	}
	return &Verifier{
		lookup: lookup, observe: observe,
		limit:   rate.NewLimiter(lookupRate, lookupBurst),
		looking: make(chan struct{}, 1),
		found:   map[string]voucher{},
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

// known returns the voucher of a writer if no lookup is needed for it.
func (v *Verifier) known(writer string) (voucher, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	by, ok := v.found[writer]
	return by, ok
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
// ask the bucket for the writer's voucher.
func (v *Verifier) verify(ctx context.Context, storage string, m message) (e manifest.Event, err error) {
	by, err := v.voucherOf(ctx, m)
	if err == nil {
		e, err = open(storage, m, by)
	}
	if by, ok := v.again(ctx, m.writer, err); ok {
		return open(storage, m, by)
	}
	return e, err
}

// voucherOf returns the voucher that m is judged by.
func (v *Verifier) voucherOf(ctx context.Context, m message) (voucher, error) {
	if err := m.check(); err != nil {
		return voucher{}, err
	}
	return v.voucher(ctx, m.writer)
}

// open returns the event in m if the writer that by is for signed it for
// storage and this bucket.
func open(storage string, m message, by voucher) (manifest.Event, error) {
	signed := ed25519.Verify(by.key, signedMessage(ofCommit, storage, m.body), m.signature)
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
	case by.seal != "" && e.Seal != by.seal:
		return manifest.Event{}, dropped(OtherBucket, "an event of writer %s", m.writer)
	}
	return e, nil
}

// openWrites is open for writes.
func openWrites(storage string, m message, by voucher) (manifest.Writes, error) {
	signed := ed25519.Verify(by.key, signedMessage(ofObject, storage, m.body), m.signature)
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
	case by.seal != "" && w.Seal != by.seal:
		return manifest.Writes{}, dropped(OtherBucket, "writes of %s", m.writer)
	}
	return w, nil
}

// voucher returns a writer's voucher, from memory or by one lookup at a time.
func (v *Verifier) voucher(ctx context.Context, writer string) (voucher, error) {
	if by, ok := v.known(writer); ok {
		return by, nil
	}
	select {
	case v.looking <- struct{}{}:
		defer func() { <-v.looking }()
	case <-ctx.Done():
		return voucher{}, dropped(Unavailable, "writer %s: %w", writer, ctx.Err())
	}
	if by, ok := v.known(writer); ok {
		return by, nil // somebody else was asking for it
	}
	if err := v.refused(writer); err != nil {
		return voucher{}, err
	}
	if !v.limit.Allow() {
		return voucher{}, dropped(Limited, "writer %s", writer)
	}
	return v.find(ctx, writer)
}

// find asks the bucket and remembers the answer.
func (v *Verifier) find(ctx context.Context, writer string) (voucher, error) {
	by, reason, err := v.ask(ctx, writer)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.found[writer] = by
		delete(v.failed, writer)
		return by, nil
	}
	v.forget()
	v.failed[writer] = failure{reason, time.Now().Add(lookupAgain)}
	return voucher{}, dropped(reason, "writer %s: %w", writer, err)
}

// ask asks the bucket. reason says why there is no voucher.
func (v *Verifier) ask(ctx context.Context, writer string) (by voucher, reason Reason, err error) {
	by.asked = time.Now()
	b, err := v.lookup(ctx, writer)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return by, UnknownWriter, err
		}
		return by, Unavailable, err
	}
	in := manifest.DecodeVoucher(b)
	by.seal = in.Seal
	by.key, err = parsePublic(writer, in.Public)
	return by, UnknownWriter, err
}

// again asks the bucket once more for the voucher of a writer whose message was
// dropped as another bucket's, and reports whether it has a new one by which
// the message may be judged again. Between two questions lies a minute.
func (v *Verifier) again(ctx context.Context, writer string, err error) (voucher, bool) {
	if !v.outdated(writer, err) {
		return voucher{}, false
	}
	by, _, err := v.ask(ctx, writer)
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.found[writer]
	if err != nil {
		by.key, by.seal = old.key, old.seal // the bucket is away, or being made anew
	}
	v.found[writer] = by
	return by, by.seal != old.seal
}

// outdated reports whether err is that a message is another bucket's, by a
// voucher that may not be the bucket's any more.
func (v *Verifier) outdated(writer string, err error) bool {
	var d *drop
	if !errors.As(err, &d) || d.reason != OtherBucket {
		return false
	}
	by, ok := v.known(writer)
	return ok && time.Since(by.asked) >= sealAgain
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
