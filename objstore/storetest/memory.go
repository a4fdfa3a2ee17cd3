package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// A Memory is a bucket in memory. It keeps the contract of objstore.Store and
// passes Run. The exported fields are set before it is used by more than one
// goroutine; the hooks themselves are called by many and must be safe.
type Memory struct {
	// Limits is what Caps returns and Assemble enforces. NewMemory allows all.
	Limits objstore.Caps

	// Before is asked before every operation. Its error is returned, and the
	// operation is not done. The key is the first for a Delete, the prefix for
	// a List, the destination for a Copy, "" for the bucket's operations.
	Before func(op objstore.Op, key string) error

	// After is asked after an operation that was done: its error is returned
	// instead of the answer, as when a connection breaks after the write was
	// applied. For a List it is asked before every object that is yielded,
	// with that object's key.
	After func(op objstore.Op, key string) error

	mu      sync.Mutex // guards what follows
	objects map[string]object
	gone    bool // the bucket does not exist
	revs    uint64
}

type object struct {
	objstore.Info
	body []byte // never changed once stored
}

var _ objstore.Store = (*Memory)(nil)

// NewMemory returns an empty bucket.
func NewMemory() *Memory {
	return &Memory{
		objects: map[string]object{},
		Limits: objstore.Caps{RangeCopy: true, CondCopy: true, ListMeta: true,
			MinPart: 1, MaxPart: 5 << 30, MaxParts: 10_000},
	}
}

// Keys returns all keys in order, past the hooks.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// Bytes returns the body of the object at key, past the hooks, and whether
// there is one.
func (m *Memory) Bytes(key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	return bytes.Clone(o.body), ok
}

// do runs one operation between the hooks, under the lock.
func (m *Memory) do(ctx context.Context, op objstore.Op, key string, f func() error) error {
	return m.named(op, key, m.step(ctx, op, key, f))
}

func (m *Memory) named(op objstore.Op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &objstore.Error{Op: op, Bucket: objstore.Location{Scheme: "memory", Bucket: "test"}, Key: key, Err: err}
}

func (m *Memory) step(ctx context.Context, op objstore.Op, key string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Before != nil {
		if err := m.Before(op, key); err != nil {
			return err
		}
	}
	if err := m.locked(op, f); err != nil {
		return err
	}
	if m.After != nil && op != objstore.OpList {
		return m.After(op, key)
	}
	return nil
}

func (m *Memory) locked(op objstore.Op, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone && op != objstore.OpCreateBucket && op != objstore.OpBucketExists {
		return objstore.ErrNoBucket
	}
	return f()
}

// Caps returns Limits.
func (m *Memory) Caps() objstore.Caps { return m.Limits }

// at returns the object at key if it is at revision rev; "" is any.
func (m *Memory) at(key string, rev objstore.Rev) (object, error) {
	o, ok := m.objects[key]
	switch {
	case ok && (rev == "" || o.Rev == rev):
		return o, nil
	case rev != "":
		return o, objstore.ErrPrecondition
	}
	return o, fs.ErrNotExist
}

// Head implements objstore.Store.
func (m *Memory) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = m.do(ctx, objstore.OpHead, key, func() error {
		o, err := m.at(key, "")
		info = o.info()
		return err
	})
	return info, err
}

func (o object) info() objstore.Info {
	i := o.Info
	i.Meta = maps.Clone(i.Meta)
	return i
}

// Get implements objstore.Store.
func (m *Memory) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	var o object
	err := m.do(ctx, objstore.OpGet, key, func() (err error) {
		o, err = m.at(key, cond.If)
		return err
	})
	if err != nil {
		return nil, objstore.Info{}, err
	}
	from := min(off, o.Size)
	to := o.Size
	if n >= 0 && n < o.Size-from {
		to = from + n
	}
	return &body{bytes.NewReader(o.body[from:to]), ctx}, o.info(), nil
}

// A body can be read until the context of its Get ends.
type body struct {
	reader *bytes.Reader
	ctx    context.Context
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.reader.Read(p)
}

func (b *body) Close() error { return nil }

// Put implements objstore.Store.
func (m *Memory) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	b, err := readBody(body, size)
	if err != nil {
		return objstore.Info{}, err
	}
	var info objstore.Info
	err = m.do(ctx, objstore.OpPut, key, func() (err error) {
		info, err = m.store(key, b, opts)
		return err
	})
	return info, err
}

func readBody(body io.ReadSeeker, size int64) ([]byte, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, fmt.Errorf("read body of %d bytes: %w: %w", size, fs.ErrInvalid, err)
	}
	return b, nil
}

// store makes b the object at key if opts.Cond holds.
func (m *Memory) store(key string, b []byte, opts objstore.PutOptions) (objstore.Info, error) {
	if key == "" || len(key) > 1024 {
		return objstore.Info{}, fmt.Errorf("key of %d bytes: %w", len(key), fs.ErrInvalid)
	}
	if _, ok := m.objects[key]; ok && opts.Cond.Absent {
		return objstore.Info{}, objstore.ErrPrecondition
	}
	if opts.Cond.If != "" {
		if _, err := m.at(key, opts.Cond.If); err != nil {
			return objstore.Info{}, err
		}
	}
	m.revs++
	info := objstore.Info{Key: key, Size: int64(len(b)), Rev: objstore.Rev("r" + strconv.FormatUint(m.revs, 10)),
		ModTime: time.Now(), Meta: maps.Clone(opts.Meta)}
	m.objects[key] = object{Info: info, body: b}
	return object{Info: info}.info(), nil
}

// Assemble implements objstore.Store.
func (m *Memory) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (info objstore.Info, _ error) {
	body, err := m.gather(key, base, parts)
	if err == nil && check != nil {
		if err := check(); err != nil { // Before must not be heard in its place
			return info, m.named(objstore.OpAssemble, key, err)
		}
	}
	err = m.do(ctx, objstore.OpAssemble, key, func() error {
		if err == nil {
			info, err = m.store(key, body, opts)
		}
		return err
	})
	return info, err
}

// gather reads all parts, without the lock: bodies may be slow.
func (m *Memory) gather(key string, base objstore.Rev, parts []objstore.Part) ([]byte, error) {
	var from object
	if objstore.NeedsBase(parts) {
		var err error
		m.mu.Lock()
		from, err = m.at(key, base)
		m.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	if err := m.Limits.CheckParts(parts, int64(len(from.body))); err != nil {
		return nil, err
	}
	size, _ := objstore.PartsSize(parts)
	out := make([]byte, 0, size)
	for _, p := range parts {
		if p.Body == nil {
			out = append(out, from.body[p.Base:p.Base+p.Size]...)
			continue
		}
		b := make([]byte, p.Size)
		if _, err := io.ReadFull(io.NewSectionReader(p.Body, 0, p.Size), b); err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// Copy implements objstore.Store.
func (m *Memory) Copy(ctx context.Context, dst, src string, rev objstore.Rev, opts objstore.PutOptions) (info objstore.Info, err error) {
	err = m.do(ctx, objstore.OpCopy, dst, func() error {
		o, err := m.at(src, rev)
		if err == nil {
			info, err = m.store(dst, o.body, opts)
		}
		return err
	})
	return info, err
}

// List implements objstore.Store. It yields what was there when it began.
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		var found []objstore.Info
		err := m.do(ctx, objstore.OpList, prefix, func() error {
			found = m.match(prefix, after)
			return nil
		})
		if err != nil {
			yield(objstore.Info{}, err)
			return
		}
		m.yieldAll(ctx, found, yield)
	}
}

func (m *Memory) yieldAll(ctx context.Context, found []objstore.Info, yield func(objstore.Info, error) bool) {
	for _, info := range found {
		err := ctx.Err()
		if err == nil && m.After != nil {
			err = m.After(objstore.OpList, info.Key)
		}
		if err != nil {
			yield(objstore.Info{}, err)
			return
		}
		if !yield(info, nil) {
			return
		}
	}
}

func (m *Memory) match(prefix, after string) []objstore.Info {
	var found []objstore.Info
	for key, o := range m.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			info := o.info()
			if !m.Limits.ListMeta {
				info.Meta = nil
			}
			found = append(found, info)
		}
	}
	slices.SortFunc(found, func(a, b objstore.Info) int { return strings.Compare(a.Key, b.Key) })
	return found
}

// Delete implements objstore.Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return ctx.Err()
	}
	return m.do(ctx, objstore.OpDelete, keys[0], func() error {
		for _, key := range keys {
			delete(m.objects, key)
		}
		return nil
	})
}

// CreateBucket implements objstore.Store.
func (m *Memory) CreateBucket(ctx context.Context) error {
	return m.do(ctx, objstore.OpCreateBucket, "", func() error {
		if !m.gone {
			return fs.ErrExist
		}
		m.gone = false
		return nil
	})
}

// BucketExists implements objstore.Store.
func (m *Memory) BucketExists(ctx context.Context) (there bool, err error) {
	err = m.do(ctx, objstore.OpBucketExists, "", func() error {
		there = !m.gone
		return nil
	})
	return there, err
}

// DeleteBucket implements objstore.Store.
func (m *Memory) DeleteBucket(ctx context.Context) error {
	return m.do(ctx, objstore.OpDeleteBucket, "", func() error {
		if len(m.objects) > 0 {
			return objstore.ErrNotEmpty
		}
		m.gone = true
		return nil
	})
}
