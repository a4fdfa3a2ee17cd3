package objstore

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Seen hears of one operation that ended: how long it took, how many bytes
// of objects it moved to or from the store, and its error. It is called by
// many goroutines.
type Seen func(op Op, took time.Duration, bytes int64, err error)

// Observe returns s with seen told of every operation. A Get ends when its
// body is closed, a List when it is left; the bytes of an Assemble are the new
// ones. Around Retry it hears what callers do, within Retry every attempt.
func Observe(s Store, seen Seen) Store { return &observed{s, seen} }

type observed struct {
	Store
	seen Seen
}

func (o *observed) tell(op Op, since time.Time, bytes int64, err error) {
	if err != nil {
		bytes = 0
	}
	o.seen(op, time.Since(since), bytes, err)
}

func (o *observed) Head(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := o.Store.Head(ctx, key)
	o.tell(OpHead, start, 0, err)
	return info, err
}

func (o *observed) Get(ctx context.Context, key string, off, n int64, cond Cond) (io.ReadCloser, Info, error) {
	start := time.Now()
	body, info, err := o.Store.Get(ctx, key, off, n, cond)
	if err != nil {
		o.tell(OpGet, start, 0, err)
		return nil, info, err
	}
	return &counted{ReadCloser: body, observed: o, start: start}, info, nil
}

// A counted is a body that says at Close what was read.
type counted struct {
	io.ReadCloser
	observed *observed
	start    time.Time
	bytes    int64
	err      error
	closed   bool
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (c *counted) Close() error {
	err := c.ReadCloser.Close()
	if !c.closed {
		c.closed = true
		c.observed.seen(OpGet, time.Since(c.start), c.bytes, c.err)
	}
	return err
}

func (o *observed) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts PutOptions) (Info, error) {
	start := time.Now()
	info, err := o.Store.Put(ctx, key, body, size, opts)
	o.tell(OpPut, start, size, err)
	return info, err
}

func (o *observed) Assemble(ctx context.Context, key string, base Rev, parts []Part, check func() error, opts PutOptions) (Info, error) {
	start := time.Now()
	_, fresh := PartsSize(parts)
	info, err := o.Store.Assemble(ctx, key, base, parts, check, opts)
	o.tell(OpAssemble, start, fresh, err)
	return info, err
}

func (o *observed) Copy(ctx context.Context, dst, src string, rev Rev, opts PutOptions) (Info, error) {
	start := time.Now()
	info, err := o.Store.Copy(ctx, dst, src, rev, opts)
	o.tell(OpCopy, start, 0, err)
	return info, err
}

func (o *observed) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		start := time.Now()
		var failed error
		defer func() { o.tell(OpList, start, 0, failed) }()
		for info, err := range o.Store.List(ctx, prefix, after) {
			failed = err
			if !yield(info, err) {
				return
			}
		}
	}
}

func (o *observed) Delete(ctx context.Context, keys ...string) error {
	start := time.Now()
	err := o.Store.Delete(ctx, keys...)
	o.tell(OpDelete, start, 0, err)
	return err
}

func (o *observed) CreateBucket(ctx context.Context) error {
	start := time.Now()
	err := o.Store.CreateBucket(ctx)
	o.tell(OpCreateBucket, start, 0, err)
	return err
}

func (o *observed) BucketExists(ctx context.Context) (bool, error) {
	start := time.Now()
	there, err := o.Store.BucketExists(ctx)
	o.tell(OpBucketExists, start, 0, err)
	return there, err
}

func (o *observed) DeleteBucket(ctx context.Context) error {
	start := time.Now()
	err := o.Store.DeleteBucket(ctx)
	o.tell(OpDeleteBucket, start, 0, err)
	return err
}
