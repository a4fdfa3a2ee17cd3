package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// errStalled says that the server neither took nor sent a byte for too long.
// It may pass, on another connection.
var errStalled = errors.New("server has stalled")

// A patient client gives up a request when the server stops in the middle of
// it. The transport's own limits begin when the request is sent and end with
// the answer's headers: a server that stops reading, or that stops in the
// middle of its answer's body, would be waited for until the context ends.
type patient struct {
	client aws.HTTPClient
	stall  time.Duration // without a byte of a body
	answer time.Duration // between the request's last byte and the answer
}

// Do sends req. The limits hold until the answer's body is closed.
func (p patient) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{patient: p, cancel: cancel}
	w.timer = time.AfterFunc(p.answer, w.expire)
	req = req.WithContext(ctx)
	w.guard(req)
	resp, err := p.client.Do(req)
	w.answered()
	if err != nil {
		w.end()
		return nil, w.blame(ctx, err)
	}
	resp.Body = &watchedAnswer{resp.Body, w, ctx}
	return resp, nil
}

// A watch is the time limit of one request.
type watch struct {
	patient
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	waiting bool // for the answer: the request's body may still be read
}

func (w *watch) expire() { w.cancel(errStalled) }

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

// blame returns errStalled for the cancellation that it became.
func (w *watch) blame(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) && err != io.EOF {
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
		b.watch.set(b.watch.answer)
	} else {
		b.watch.set(b.watch.stall)
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
	a.watch.timer.Reset(a.watch.stall)
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
