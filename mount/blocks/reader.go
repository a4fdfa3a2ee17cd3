package blocks

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
)

// A Reader reads one content. It is for one open file: it notices who reads in
// a row, and fetches ahead of them. It may be used by many goroutines.
type Reader struct {
	cache   *Cache
	object  Object
	id      id
	content *content // nil for a small content

	flying atomic.Int32 // flights of this Reader's streams
	early  atomic.Bool  // bytes were given out that may prove wrong
	seen   atomic.Int32 // content.failures while early was false
	closed atomic.Bool

	mu      sync.Mutex // guards streams
	streams streams
}

// Reader returns a Reader of o. It asks nothing of store or disk until it is
// read from, and must be closed.
func (c *Cache) Reader(o Object) *Reader {
	r := &Reader{cache: c, object: o, id: o.id(c.bucket)}
	if o.Size > small {
		r.content = c.acquire(r.id, o)
	}
	return r
}

// Close ends what was fetched ahead and nobody waits for. Reads under way go on.
func (r *Reader) Close() {
	if r.closed.Swap(true) || r.content == nil {
		return
	}
	r.content.unwanted(r)
	r.cache.drop(r.content)
}

// ReadAt reads len(p) bytes from off on, as an io.ReaderAt does: fewer only with
// an error, and io.EOF at the end of the content. It fails with ErrGone,
// ErrCorrupt, the error of ctx, os.ErrDeadlineExceeded when the store gave no
// byte for Options.Deadline, fs.ErrClosed, or what the store said.
//
// Once a part was wrong of which this Reader may have given out bytes, it fails
// with ErrCorrupt for ever.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %q at %d: %w", r.object.Key, off, fs.ErrInvalid)
	}
	n := int(min(int64(len(p)), max(0, r.object.Size-off)))
	if n > 0 {
		if err := r.fill(ctx, p[:n], off); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fill reads all of p.
func (r *Reader) fill(ctx context.Context, p []byte, off int64) error {
	if r.content == nil {
		return r.fillSmall(ctx, p, off)
	}
	if err := r.begin(); err != nil {
		return err
	}
	r.content.touch()
	if d := r.content.disk.Load(); d != nil && d.ready(off, int64(len(p))) {
		if n, err := d.data.ReadAt(p, off); err == nil && n == len(p) {
			r.cache.stats.hits.Add(1)
			r.cache.stats.disk.Add(int64(n))
			r.ahead(off, int64(n))
			return r.vouch(ctx, off, int64(n), d.isProven(off, int64(n)))
		}
	}
	return r.slowly(ctx, p, off)
}

// begin refuses a Reader that may have given out wrong bytes.
func (r *Reader) begin() error {
	failures := r.content.failures.Load()
	if !r.early.Load() {
		r.seen.Store(failures)
	} else if r.seen.Load() != failures {
		return r.corrupt()
	}
	return nil
}

func (r *Reader) corrupt() error { return fmt.Errorf("read %q: %w", r.object.Key, ErrCorrupt) }

// vouch is asked after every read whether its bytes may be given out. Where
// they may still prove wrong, the end of a part is held back until they are
// known to be right: nobody gets past a wrong part without an error.
func (r *Reader) vouch(ctx context.Context, off, n int64, sure bool) error {
	if sure || r.content.proof.Load() == nil {
		return nil
	}
	r.early.Store(true)
	if err := r.content.await(ctx, off, n); err != nil {
		return err
	}
	if r.seen.Load() != r.content.failures.Load() {
		return r.corrupt()
	}
	return nil
}

// ahead notes a read that cost nothing and fetches what the stream will want.
func (r *Reader) ahead(off, n int64) {
	from, to := r.advance(off, n)
	if from >= to || r.cache.enter() != nil {
		return
	}
	defer r.cache.leave()
	r.launch(from, from, to)
}

func (r *Reader) advance(off, n int64) (from, to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams.advance(off, n, r.cache.window(), r.object.Size)
}

func (r *Reader) launch(from, ahead, to int64) {
	if reached := r.content.launch(r, from, ahead, to); reached < to {
		r.mu.Lock()
		r.streams.short(to, reached)
		r.mu.Unlock()
	}
}

// slowly reads what is not all at hand.
func (r *Reader) slowly(ctx context.Context, p []byte, off int64) error {
	if err := r.cache.enter(); err != nil {
		return err
	}
	defer r.cache.leave()
	limited, cancel := context.WithTimeoutCause(ctx, r.cache.deadline, errNoAnswer)
	defer cancel()
	sure, err := r.collect(limited, p, off)
	if err == nil {
		err = r.vouch(limited, off, int64(len(p)), sure)
	}
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	return err
}

// collect fills p, and reports whether all of it is proven.
func (r *Reader) collect(ctx context.Context, p []byte, off int64) (sure bool, err error) {
	end := off + int64(len(p))
	from, to := r.advance(off, int64(len(p)))
	sure = true
	missed := false
	for at := off; at < end; {
		n, s := r.content.kept(p[at-off:], at)
		if n == 0 {
			if !missed {
				r.launch(at, end, max(to, end))
				missed = true
			}
			if n, s, err = r.missing(ctx, p[at-off:], at); err != nil {
				return false, err
			}
		}
		at, sure = at+int64(n), sure && s
	}
	if !missed && from < to {
		r.launch(from, from, to)
	}
	r.cache.stats.count(!missed)
	return sure, nil
}

// tries bounds how often a read begins anew because of a flight that was not
// its own: one that failed, was cut off, or brought a wrong part.
const tries = 4

// missing reads as much of p as one flight brings.
func (r *Reader) missing(ctx context.Context, p []byte, off int64) (n int, sure bool, err error) {
	for range tries {
		if n, sure = r.content.kept(p, off); n > 0 {
			return n, sure, nil
		}
		var f *flight
		var mine bool
		if f, mine, err = r.content.demand(ctx, r, off, off+int64(len(p))); err != nil {
			return 0, false, err
		}
		n, sure, err = f.read(ctx, p, off)
		f.release()
		if err == nil || ctx.Err() != nil || mine && err != errMismatch {
			return n, sure, err
		}
		if err := r.begin(); err != nil {
			return 0, false, err
		}
	}
	return 0, false, err
}

// departed and landed count the flights of a Reader's streams: all Readers that
// have some share the budget.
func (r *Reader) departed() {
	if r != nil && r.flying.Add(1) == 1 {
		r.cache.streaming.Add(1)
	}
}

func (r *Reader) landed() {
	if r != nil && r.flying.Add(-1) == 0 {
		r.cache.streaming.Add(-1)
	}
}
