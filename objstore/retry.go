package objstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A Policy says how long Retry tries.
type Policy struct {
	Attempts int           // for one operation, the first included; 0 means 8
	First    time.Duration // longest wait before the second attempt; 0 means 100 ms; it doubles
	Max      time.Duration // longest wait before any; 0 means 20 s

	// OnRetry, when set, hears of every attempt that failed and will be made
	// again after wait. It is called by many goroutines.
	OnRetry func(op Op, key string, attempt int, wait time.Duration, err error)
}

// Retry returns s with every operation made again when it fails for a reason
// that may pass. Reasons that stay are fs.ErrNotExist, fs.ErrExist,
// fs.ErrPermission, fs.ErrInvalid, errors.ErrUnsupported, ErrPrecondition,
// ErrNotEmpty, ErrTLS, an error of Assemble's check, and the end of the context.
// ErrUnreachable gets three attempts until the server has answered once: who
// begins with a wrong address should hear of it at once.
//
// A write that is made again may meet its own first attempt, whose answer was
// lost, and fail by its condition or because its source is gone since. So when
// a Put, Copy or Assemble is told ErrPrecondition or that an object is missing
// after an attempt of unknown outcome, Retry looks at the object: if it
// carries all metadata of this write, among it "write-id" or "blake3", and has
// its size, then the state that was asked for is there and the write has
// succeeded. Without such metadata the answer stays, and the caller has to
// look. An Assemble, which is expensive, is not made again without that look.
//
// A write without a condition that is made again may undo what somebody else
// wrote in between, as if it had come a moment later.
//
// A Get whose body breaks goes on where it broke, pinned to the revision it
// began with. A List goes on after its last key.
//
// After ErrThrottled the waits are four times as long and never short, and a
// Throttled's After is waited for, up to Policy.Max.
func Retry(s Store, p Policy) Store {
	if p.Attempts == 0 {
		p.Attempts = 8
	}
	if p.First == 0 {
		p.First = 100 * time.Millisecond
	}
	if p.Max == 0 {
		p.Max = 20 * time.Second
	}
	return &retried{Store: s, policy: p}
}

type retried struct {
	Store
	policy   Policy
	answered atomic.Bool // the server, once
}

// blindAttempts are made for a server that has never answered.
const blindAttempts = 3

// lasting are the reasons that waiting does not remove.
var lasting = []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, errors.ErrUnsupported,
	ErrPrecondition, ErrNotEmpty, ErrTLS, context.Canceled}

// Lasting reports whether err will be the same however often the operation is
// tried.
func Lasting(err error) bool {
	for _, target := range lasting {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

type onceKey struct{}

// Once returns a context under which Retry makes an operation once: its caller
// looks at what is there before it tries again.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// Heals reports whether the reason of err is one that people remove, while the
// operation stays as it is: missing rights, a missing bucket, a certificate, a
// clock.
func Heals(err error) bool {
	var e interface{ Heals() bool }
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNoBucket) || errors.Is(err, ErrTLS) ||
		errors.As(err, &e) && e.Heals()
}

// A trial is one operation and its attempts.
type trial struct {
	*retried
	op      Op
	key     string
	attempt int   // how many have failed
	refused error // when set, what our own side said: not to be tried again
}

func (r *retried) trial(op Op, key string) *trial { return &trial{retried: r, op: op, key: key} }

// again waits, and reports whether the operation should be made once more
// after err.
func (t *trial) again(ctx context.Context, err error) bool {
	t.attempt++
	if err == nil || t.refused != nil || Lasting(err) || ctx.Err() != nil || ctx.Value(onceKey{}) != nil || t.attempt >= t.attempts(err) {
		return false
	}
	wait := t.policy.wait(t.attempt, err)
	if t.policy.OnRetry != nil {
		t.policy.OnRetry(t.op, t.key, t.attempt, wait, err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// attempts returns how often to try what failed with err.
func (t *trial) attempts(err error) int {
	if !errors.Is(err, ErrUnreachable) {
		t.answered.Store(true)
	}
	if t.answered.Load() {
		return t.policy.Attempts
	}
	return min(blindAttempts, t.policy.Attempts)
}

// wait returns how long to wait after the attempt-th failure: anything up to
// the limit, so that many agents that failed together do not come back together.
func (p Policy) wait(attempt int, err error) time.Duration {
	if errors.Is(err, ErrThrottled) {
		return p.calm(attempt, err)
	}
	return rand.N(p.limit(attempt) + 1)
}

// calm returns how long to wait when the store asks for fewer requests: a
// short wait, which chance may give, would be one more of too many.
func (p Policy) calm(attempt int, err error) time.Duration {
	limit := p.limit(attempt + 2)
	wait := limit/2 + rand.N(limit/2+1)
	var t *Throttled
	if errors.As(err, &t) {
		wait = min(max(wait, t.After), p.Max)
	}
	return wait
}

// limit returns the longest wait after the attempt-th failure.
func (p Policy) limit(attempt int) time.Duration {
	if shift := attempt - 1; shift < 30 && p.First<<shift < p.Max {
		return p.First << shift
	}
	return p.Max
}

// do makes an operation until it succeeds or there is no point.
func (t *trial) do(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil && !t.answered.Load() {
			t.answered.Store(true)
		}
		if !t.again(ctx, err) {
			return err
		}
	}
}

func (r *retried) Head(ctx context.Context, key string) (info Info, err error) {
	err = r.trial(OpHead, key).do(ctx, func() error {
		info, err = r.Store.Head(ctx, key)
		return err
	})
	return info, err
}

func (r *retried) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts PutOptions) (Info, error) {
	return r.write(ctx, r.trial(OpPut, key), size, opts, func() (Info, error) {
		return r.Store.Put(ctx, key, body, size, opts)
	})
}

func (r *retried) Assemble(ctx context.Context, key string, base Rev, parts []Part, check func() error, opts PutOptions) (Info, error) {
	size, _ := PartsSize(parts)
	t := r.trial(OpAssemble, key)
	checked := func() error {
		if check != nil {
			t.refused = check()
		}
		return t.refused
	}
	return r.write(ctx, t, size, opts, func() (Info, error) {
		if t.attempt > 0 {
			if mine, ok := r.mine(ctx, key, size, opts); ok {
				return mine, nil
			}
		}
		return r.Store.Assemble(ctx, key, base, parts, checked, opts)
	})
}

func (r *retried) Copy(ctx context.Context, dst, src string, rev Rev, opts PutOptions) (Info, error) {
	return r.write(ctx, r.trial(OpCopy, dst), -1, opts, func() (Info, error) {
		return r.Store.Copy(ctx, dst, src, rev, opts)
	})
}

// write makes a write until it succeeds or there is no point, and knows its own
// success again. size is -1 when only the store knows it.
func (r *retried) write(ctx context.Context, t *trial, size int64, opts PutOptions, f func() (Info, error)) (info Info, err error) {
	err = t.do(ctx, func() error {
		info, err = f()
		return err
	})
	if t.attempt > 1 && t.refused == nil && (errors.Is(err, ErrPrecondition) || errors.Is(err, fs.ErrNotExist)) {
		if mine, ok := r.mine(ctx, t.key, size, opts); ok {
			return mine, nil
		}
	}
	return info, err
}

// mine reports whether the object at key is what a write with opts makes.
func (r *retried) mine(ctx context.Context, key string, size int64, opts PutOptions) (Info, bool) {
	if opts.Meta["write-id"] == "" && opts.Meta["blake3"] == "" {
		return Info{}, false
	}
	info, err := r.Head(ctx, key)
	if err != nil || size >= 0 && info.Size != size {
		return Info{}, false
	}
	for k, v := range opts.Meta {
		if info.Meta[k] != v {
			return Info{}, false
		}
	}
	return info, true
}

func (r *retried) Delete(ctx context.Context, keys ...string) error {
	key := ""
	if len(keys) > 0 {
		key = keys[0]
	}
	return r.trial(OpDelete, key).do(ctx, func() error { return r.Store.Delete(ctx, keys...) })
}

// CreateBucket takes a bucket that appeared between two attempts for its own.
func (r *retried) CreateBucket(ctx context.Context) error {
	t := r.trial(OpCreateBucket, "")
	err := t.do(ctx, func() error { return r.Store.CreateBucket(ctx) })
	if t.attempt > 1 && errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (r *retried) BucketExists(ctx context.Context) (there bool, err error) {
	err = r.trial(OpBucketExists, "").do(ctx, func() error {
		there, err = r.Store.BucketExists(ctx)
		return err
	})
	return there, err
}

// DeleteBucket takes a bucket that went between two attempts for its own deed.
func (r *retried) DeleteBucket(ctx context.Context) error {
	t := r.trial(OpDeleteBucket, "")
	err := t.do(ctx, func() error { return r.Store.DeleteBucket(ctx) })
	if t.attempt > 1 && errors.Is(err, ErrNoBucket) {
		return nil
	}
	return err
}

func (r *retried) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		t, after := r.trial(OpList, prefix), after
		for {
			var failed error
			for info, err := range r.Store.List(ctx, prefix, after) {
				if err != nil {
					failed = err
					break
				}
				if !yield(info, nil) {
					return
				}
				after, t.attempt = info.Key, 0 // it gets on: patience is for one place
			}
			if failed == nil {
				return
			}
			if !t.again(ctx, failed) {
				yield(Info{}, failed)
				return
			}
		}
	}
}

func (r *retried) Get(ctx context.Context, key string, off, n int64, cond Cond) (body io.ReadCloser, info Info, err error) {
	t := r.trial(OpGet, key)
	err = t.do(ctx, func() error {
		body, info, err = r.Store.Get(ctx, key, off, n, cond)
		return err
	})
	if err != nil {
		return nil, info, err
	}
	left := max(0, info.Size-off)
	if n >= 0 {
		left = min(n, left)
	}
	return &resumed{ctx: ctx, trial: t, store: r.Store, body: body, off: off, left: left, pin: Cond{If: info.Rev}}, info, nil
}

// A resumed is a body that is asked for again from where it broke.
type resumed struct {
	ctx   context.Context // of the Get: the body lives no longer
	trial *trial
	store Store
	body  io.ReadCloser
	off   int64 // of the next byte
	left  int64 // bytes to come
	pin   Cond
}

func (b *resumed) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.off += int64(n)
	b.left -= int64(n)
	if n > 0 {
		b.trial.attempt = 0
	}
	switch {
	case err == nil:
		return n, nil
	case b.left <= 0:
		return n, io.EOF // what breaks behind the last byte is nobody's loss
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, b.resume(err)
}

// resume opens the body again after err. It returns nil when reading can go on.
func (b *resumed) resume(err error) error {
	for b.trial.again(b.ctx, err) {
		var body io.ReadCloser
		if body, _, err = b.store.Get(b.ctx, b.trial.key, b.off, b.left, b.pin); err == nil {
			b.body.Close()
			b.body = body
			return nil
		}
	}
	return err
}

func (b *resumed) Close() error { return b.body.Close() }
