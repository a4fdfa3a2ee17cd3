package patience

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// ErrStalled says that the server neither took nor sent a byte for too long.
// It may pass, on another connection.
var ErrStalled = errors.New("server has stalled")

// Limits are how long a request waits for its server.
type Limits struct {
	Stall  time.Duration // without a byte of a body
	Answer time.Duration // between the request's last byte and the answer
}

const (
	defaultStall = 30 * time.Second
	// A server that copies 1 GiB before it answers needs a while; one that
	// rewrites works for half a minute at a time.
	defaultAnswer = 2 * time.Minute
)

// New returns Limits; 0 means 30 s without a byte and 2 min for an answer.
func New(stall, answer time.Duration) Limits {
	return Limits{Stall: cmp.Or(stall, defaultStall), Answer: cmp.Or(answer, defaultAnswer)}
}

// Do sends req by send. The limits hold until the answer's body is closed.
func (l Limits) Do(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{Limits: l, cancel: cancel}
	w.timer = time.AfterFunc(l.Answer, w.expire)
	req = req.WithContext(ctx)
	w.guard(req)
	resp, err := send(req)
	w.answered()
	if err != nil {
		w.end()
		return nil, w.blame(ctx, err)
	}
	resp.Body = &watchedAnswer{resp.Body, w, ctx}
	return resp, nil
}

// Transport returns a RoundTripper that keeps the limits.
func (l Limits) Transport(base http.RoundTripper) http.RoundTripper { return limited{l, base} }

type limited struct {
	Limits
	base http.RoundTripper
}

func (t limited) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.Do(req, t.base.RoundTrip)
}

// A watch is the time limit of one request.
type watch struct {
	Limits
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	waiting bool // for the answer: the request's body may still be read
}

func (w *watch) expire() { w.cancel(ErrStalled) }

// guard watches the bodies that the transport may read: a Read means that what
// was read before is on its way. Our own disk may take as long as it likes.
func (w *watch) guard(req *http.Request) {
	w.waiting = true
	if req.Body == nil || req.Body == http.NoBody {
		return
	}
	req.Body = &watchedBody{req.Body, w}
	if again := req.GetBody; again != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			return &watchedBody{body, w}, err
		}
	}
}

// set lets the time run anew for the request's body, unless the answer is here.
func (w *watch) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting {
		w.timer.Reset(d)
	}
}

// pause stops the time while our own side is busy.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting {
		w.timer.Stop()
	}
}

func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	w.timer.Stop()
}

// end lets go of the request.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// blame returns ErrStalled for the cancellation that it became.
func (w *watch) blame(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) && err != io.EOF {
		return cause
	}
	return err
}

// A watchedBody is the body of a request.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.pause()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.watch.set(b.watch.Answer)
	} else {
		b.watch.set(b.watch.Stall)
	}
	return n, err
}

// A watchedAnswer is the body of an answer. Time runs while it is read, not
// while the reader does something else.
type watchedAnswer struct {
	io.ReadCloser
	watch *watch
	ctx   context.Context
}

func (a *watchedAnswer) Read(p []byte) (int, error) {
	a.watch.timer.Reset(a.watch.Stall)
	n, err := a.ReadCloser.Read(p)
	a.watch.timer.Stop()
	if err != nil {
		err = a.watch.blame(a.ctx, err)
	}
	return n, err
}

func (a *watchedAnswer) Close() error {
	err := a.ReadCloser.Close()
	a.watch.end()
	return err
}
