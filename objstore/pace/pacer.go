package pace

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are what a user sets. The zero Limits leave all to the Pacer.
type Limits struct {
	Transfers int     // requests at a time, at most; 0 means 64
	Requests  float64 // a second; 0 is no limit
	Upload    int64   // bytes of bodies a second; 0 is no limit
	Download  int64   // the same of answers
}

// DefaultTransfers is how many requests run at a time, at most.
const DefaultTransfers = 64

// A Pacer holds requests back until it is their turn.
type Pacer struct {
	requests, upload, download *rate.Limiter // nil is no limit

	mu      sync.Mutex // guards what follows
	window  window
	running int
	queue   []chan struct{} // of who waits, first come first; closed when it is their turn
}

// New returns a Pacer that keeps l.
func New(l Limits) *Pacer {
	if l.Transfers <= 0 {
		l.Transfers = DefaultTransfers
	}
	p := &Pacer{window: newWindow(l.Transfers), upload: bandwidth(l.Upload), download: bandwidth(l.Download)}
	if l.Requests > 0 {
		p.requests = rate.NewLimiter(rate.Limit(l.Requests), max(1, int(l.Requests/10)))
	}
	return p
}

// chunk is how many bytes are let through at once.
const chunk = 64 << 10

func bandwidth(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(min(chunk, bytes))) // no wait is longer than a second
}

// Do sends req by send when its turn has come. The place is free again when the
// answer's body is closed or at its end, or at once when there is no answer.
func (p *Pacer) Do(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx := req.Context()
	if p.requests != nil {
		if err := p.requests.Wait(ctx); err != nil {
			return nil, cause(ctx, err)
		}
	}
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	p.slowUpload(req)
	resp, err := send(req)
	if err != nil {
		p.leave(0)
		return nil, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
		p.throttled(began)
	}
	sent := max(0, req.ContentLength)
	resp.Body = &body{ReadCloser: resp.Body, ctx: ctx, limit: p.download,
		end: func(received int64) { p.leave(sent + received) }}
	return resp, nil
}

// cause prefers the context's own words.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Transport returns a RoundTripper that keeps the pace of p.
func (p *Pacer) Transport(base http.RoundTripper) http.RoundTripper { return paced{p, base} }

type paced struct {
	pacer *Pacer
	base  http.RoundTripper
}

func (t paced) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.pacer.Do(req, t.base.RoundTrip)
}

// Transfers returns how many requests may run at a time now.
func (p *Pacer) Transfers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.window.size()
}

// enter waits for a place.
func (p *Pacer) enter(ctx context.Context) error {
	p.mu.Lock()
	if p.running < p.window.size() && len(p.queue) == 0 {
		p.running++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.queue = append(p.queue, turn)
	p.window.waited()
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		p.desert(turn)
		return ctx.Err()
	}
}

// desert gives up a place in the queue, or the turn that came meanwhile.
func (p *Pacer) desert(turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.queue {
		if other == turn {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			return
		}
	}
	p.running--
	p.admit()
}

// leave gives a place back, after a request that moved bytes.
func (p *Pacer) leave(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	if len(p.queue) > 0 {
		p.window.waited()
	}
	p.window.end(time.Now(), bytes)
	p.admit()
}

// admit lets in as many as have a place.
func (p *Pacer) admit() {
	for len(p.queue) > 0 && p.running < p.window.size() {
		close(p.queue[0])
		p.queue = p.queue[1:]
		p.running++
	}
}

func (p *Pacer) throttled(began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window.throttled(began, time.Now())
}

// slowUpload makes req's body keep to the limit.
func (p *Pacer) slowUpload(req *http.Request) {
	if p.upload == nil || req.Body == nil || req.Body == http.NoBody {
		return
	}
	slow := func(b io.ReadCloser) io.ReadCloser {
		return &body{ReadCloser: b, ctx: req.Context(), limit: p.upload, end: func(int64) {}}
	}
	req.Body = slow(req.Body)
	if get := req.GetBody; get != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			b, err := get()
			if err != nil {
				return nil, err
			}
			return slow(b), nil
		}
	}
}

// A body passes bytes at the limit and says once when it is done.
type body struct {
	io.ReadCloser
	ctx   context.Context // of the request: the body lives no longer
	limit *rate.Limiter   // nil is none
	bytes int64
	once  sync.Once
	end   func(bytes int64)
}

func (b *body) Read(p []byte) (int, error) {
	if b.limit != nil {
		p = p[:min(len(p), b.limit.Burst())]
	}
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	if b.limit != nil && n > 0 {
		if e := b.limit.WaitN(b.ctx, n); e != nil {
			return n, cause(b.ctx, e)
		}
	}
	if err != nil {
		b.once.Do(func() { b.end(b.bytes) })
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.end(b.bytes) })
	return err
}
