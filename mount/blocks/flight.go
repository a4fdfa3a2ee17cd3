package blocks

import (
	"context"
	"errors"
	"sync"
)

// Reasons for a flight to end that are no error of the reader that waits for
// it: it asks again.
var (
	errUnwanted = errors.New("the reader that this was fetched for is closed")
	errMismatch = errors.New("content has another hash; it will be fetched again")
)

// A flight is one GET on its way: a stretch of a content that begins with a
// piece. Readers take its bytes as they come; it lands when it is judged and
// written to disk, and its memory is free when the last reader let go.
type flight struct {
	content *content
	reader  *Reader // whose stream it belongs to; nil is nobody's
	off     int64
	buf     []byte // below got its bytes are final
	ahead   bool   // nobody asked for its first byte yet when it began
	strict  bool   // its bytes are given out only when it has landed
	cancel  context.CancelCauseFunc
	spill   spill

	mu     sync.Mutex // guards what follows
	got    int
	landed bool
	proven bool // all its bytes are parts whose hash is right
	wrong  bool // none of its bytes may be used
	err    error
	refs   int           // those who look at buf: readers, and the flight's own goroutine
	news   chan struct{} // closed when something above changes; nil while nobody waits
}

// end returns where the flight's bytes end.
func (f *flight) end() int64 { return f.off + int64(len(f.buf)) }

func (f *flight) hold() {
	f.mu.Lock()
	f.refs++
	f.mu.Unlock()
}

// alone reports whether nobody looks at the flight's bytes.
func (f *flight) alone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refs == 1
}

// release lets go of the flight's memory.
func (f *flight) release() {
	f.mu.Lock()
	f.refs--
	last := f.refs == 0
	f.mu.Unlock()
	if last {
		n := int64(len(f.buf))
		recycle(f.buf)
		f.content.cache.budget.free(n, f.ahead)
	}
}

// change does what changes the flight, and wakes those who wait.
func (f *flight) change(do func()) {
	f.mu.Lock()
	do()
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
	f.mu.Unlock()
}

// until waits for the n-th byte, or with landed for all of it to be judged and
// written. The flight's error is returned when it comes before.
func (f *flight) until(ctx context.Context, n int, landed bool) error {
	for {
		news, err := f.look(n, landed)
		if news == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}

// look returns what to wait for, nil when there is nothing to wait for.
func (f *flight) look(n int, landed bool) (<-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.landed && (f.got < n || f.wrong):
		return nil, f.err
	case f.landed || !landed && !f.strict && f.got >= n:
		return nil, nil
	}
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return f.news, nil
}

// read gives as much of p, the content from off on, as the flight has, and
// whether it is proven. It waits for all of that.
func (f *flight) read(ctx context.Context, p []byte, off int64) (n int, sure bool, err error) {
	at := int(off - f.off)
	n = min(len(p), len(f.buf)-at)
	if err := f.until(ctx, at+n, false); err != nil {
		return 0, false, err
	}
	copy(p[:n], f.buf[at:])
	f.mu.Lock()
	defer f.mu.Unlock()
	return n, f.proven, nil
}

// fill fetches the bytes. Whoever sends none for the cache's deadline is given
// up.
func (f *flight) fill(ctx context.Context) error {
	get := f.content.cache.get(ctx, f.content.object, f.off, int64(len(f.buf)))
	defer get.close()
	for at := 0; at < len(f.buf); {
		n, err := get.Read(f.buf[at:min(int(down(int64(at), grain))+grain, len(f.buf))])
		at += n
		if n > 0 {
			f.change(func() { f.got = at })
			f.spill.take(f, at)
		}
		if err != nil && at < len(f.buf) {
			return get.failed(err)
		}
	}
	return nil
}
