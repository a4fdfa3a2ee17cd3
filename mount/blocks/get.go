package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// A get is one request of the store. It gives up when nothing comes for the
// cache's deadline, however long it takes in all.
type get struct {
	cache  *Cache
	object Object
	ctx    context.Context // of this request alone
	cancel context.CancelCauseFunc
	timer  *time.Timer
	body   io.ReadCloser // nil until the store has answered
	off, n int64
}

// get begins a request for n bytes of o from off on. It must be closed.
func (c *Cache) get(ctx context.Context, o Object, off, n int64) *get {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.deadline, func() { cancel(errNoAnswer) })
	return &get{cache: c, object: o, ctx: ctx, cancel: cancel, timer: timer, off: off, n: n}
}

// errNoAnswer is what reads fail with whose store is silent. The caller's own
// deadline is context.DeadlineExceeded.
var errNoAnswer = fmt.Errorf("no answer from the store: %w", os.ErrDeadlineExceeded)

// Read reads the next bytes, and asks for them first.
func (g *get) Read(p []byte) (int, error) {
	if g.body == nil {
		if err := g.ask(); err != nil {
			return 0, err
		}
	}
	n, err := g.body.Read(p)
	if n > 0 {
		g.timer.Reset(g.cache.deadline)
		g.cache.stats.fetched.Add(int64(n))
	}
	return n, err
}

// ask sends the request. A server that keeps objects as files (versitygw) may
// check the revision before the object is replaced, and answer with the next one:
// that is seen by the size, and asked again it says that the revision is gone.
func (g *get) ask() error {
	var size int64
	for range 2 {
		g.cache.stats.requests.Add(1)
		body, info, err := g.cache.store.Get(g.ctx, g.object.Key, g.off, g.n, objstore.Cond{If: g.object.Rev})
		if err != nil {
			return err
		}
		if info.Size == g.object.Size {
			g.body = body
			return nil
		}
		body.Close()
		size = info.Size
	}
	return fmt.Errorf("%w: it has %d bytes in the store, not %d", ErrCorrupt, size, g.object.Size)
}

func (g *get) close() {
	g.timer.Stop()
	g.cancel(context.Canceled)
	if g.body != nil {
		g.body.Close()
	}
}

// failed says why the request ended before all bytes had come.
func (g *get) failed(err error) error {
	switch {
	case g.ctx.Err() != nil:
		err = context.Cause(g.ctx)
	case errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", ErrGone, err)
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %q at %d: %w", g.object.Key, g.off, err)
}
