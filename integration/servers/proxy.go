package servers

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy stands before a server of objects, counts what passes, and does to a
// request what Decide says. It changes nothing that a signature covers.
type Proxy struct {
	URL string // in place of the server's own

	decide   atomic.Pointer[func(*http.Request) Fault]
	delay    atomic.Int64 // nanoseconds
	upstream *httputil.ReverseProxy
	closing  chan struct{} // closed at the end of the test, for those that hang

	mu      sync.Mutex // guards what follows
	taken   []string   // method, path and query of every request since Take
	traffic map[string]*traffic
}

// Traffic is what passed a Proxy.
type Traffic struct {
	Requests int64
	Up, Down int64 // bytes of bodies, as far as they were sent
}

type traffic struct{ requests, up, down atomic.Int64 }

// NewProxy starts a proxy of the test's own before the server at endpoint,
// without faults.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	p := &Proxy{closing: make(chan struct{}), traffic: map[string]*traffic{}}
	p.upstream = &httputil.ReverseProxy{
		Transport:      transport,
		FlushInterval:  -1, // half of a body is to arrive before the break
		ModifyResponse: p.answer,
		ErrorHandler:   func(_ http.ResponseWriter, req *http.Request, _ error) { reset(req) },
		ErrorLog:       log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	server.Config.ErrorLog = p.upstream.ErrorLog
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	server.Start()
	t.Cleanup(func() {
		close(p.closing)
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	p.URL = server.URL
	return p
}

// Decide sets who says what happens to a request; nil lets all pass. decide is
// called by many goroutines.
func (p *Proxy) Decide(decide func(*http.Request) Fault) {
	if decide == nil {
		p.decide.Store(nil)
		return
	}
	p.decide.Store(&decide)
}

// Delay makes every request from now on wait before the server hears of it, as
// on a long way. It adds to what the server takes.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Take returns the requests since the last Take: method, path and query.
func (p *Proxy) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.taken
	p.taken = nil
	return taken
}

// Traffic returns what passed with a method since the proxy started, or with
// any when method is "".
func (p *Proxy) Traffic(method string) Traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum Traffic
	for m, tr := range p.traffic {
		if method == "" || m == method {
			sum.Requests += tr.requests.Load()
			sum.Up += tr.up.Load()
			sum.Down += tr.down.Load()
		}
	}
	return sum
}

// note takes down a request and returns where its bytes are counted.
func (p *Proxy) note(req *http.Request) *traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = append(p.taken, req.Method+" "+req.URL.RequestURI())
	tr := p.traffic[req.Method]
	if tr == nil {
		tr = &traffic{}
		p.traffic[req.Method] = tr
	}
	tr.requests.Add(1)
	return tr
}

func (p *Proxy) serve(w http.ResponseWriter, req *http.Request) {
	x := &exchange{traffic: p.note(req), done: req.Context().Done(), closing: p.closing}
	if decide := p.decide.Load(); decide != nil {
		x.fault = (*decide)(req)
	}
	req.Body = &passing{ReadCloser: req.Body, count: &x.traffic.up}
	if d := p.delay.Load(); d > 0 {
		x.sleep(time.Duration(d))
	}
	if answer, ok := answers[x.fault]; ok {
		answer.write(w)
		return
	}
	switch x.fault {
	case Hang:
		io.Copy(io.Discard, req.Body) // only then does the server notice that the client left
		x.wait()
		reset(req)
	case Ignore:
		x.wait()
		reset(req)
	case BreakRequest:
		if req.ContentLength <= 0 {
			reset(req)
		}
		req.Body = x.broken(req.Body, req.ContentLength)
	case Slow:
		req.Body = x.slow(req.Body, req.ContentLength)
	}
	p.upstream.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), exchangeKey{}, x)))
}

// answer does to the server's answer what was decided. An error resets the
// client's connection.
func (p *Proxy) answer(resp *http.Response) error {
	x := resp.Request.Context().Value(exchangeKey{}).(*exchange)
	body, size := resp.Body, resp.ContentLength
	if x.fault == Lose {
		io.Copy(io.Discard, body)
		return errBroken
	}
	if resp.Request.Method == http.MethodHead || size == 0 {
		size = 0
	}
	switch x.fault {
	case BreakAnswer, Truncate:
		if size == 0 {
			return errBroken
		}
		conn := resp.Request.Context()
		body = x.broken(body, size)
		if x.fault == BreakAnswer {
			body.(*passing).end = func() error { linger(conn); return errBroken }
		}
	case Stall:
		if size == 0 {
			x.wait()
			return errBroken
		}
		body = x.stalled(body, size)
	case Slow:
		body = x.slow(body, size)
	}
	resp.Body = &passing{ReadCloser: body, count: &x.traffic.down}
	return nil
}

type (
	connKey     struct{}
	exchangeKey struct{}
)

// reset ends a request's connection at once, with what was not sent lost.
func reset(req *http.Request) {
	linger(req.Context())
	panic(http.ErrAbortHandler)
}

// linger makes the coming close of a connection a reset.
func linger(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*net.TCPConn); ok {
		c.SetLinger(0)
	}
}

var errBroken = errors.New("proxy broke the connection")

// An exchange is one request and what is to become of it.
type exchange struct {
	fault   Fault
	traffic *traffic
	done    <-chan struct{} // closed when the client is gone
	closing <-chan struct{}
}

func (x *exchange) wait() {
	select {
	case <-x.done:
	case <-x.closing:
	}
}

// sleep waits for d, or until nobody waits for the answer.
func (x *exchange) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-x.done:
	case <-x.closing:
	case <-timer.C:
	}
}

// broken ends a body of size bytes in its middle.
func (x *exchange) broken(body io.ReadCloser, size int64) io.ReadCloser {
	return &passing{ReadCloser: body, limited: true, left: size / 2, end: func() error { return errBroken }}
}

// stalled sends half of a body and then nothing until the client leaves.
func (x *exchange) stalled(body io.ReadCloser, size int64) io.ReadCloser {
	return &passing{ReadCloser: body, limited: true, left: size / 2, end: func() error { x.wait(); return errBroken }}
}

// slow sends a body in eight pieces with a pause before each, one of unknown
// size in pieces of 8 KiB.
func (x *exchange) slow(body io.ReadCloser, size int64) io.ReadCloser {
	if size < 0 {
		size = 64 << 10
	}
	return &passing{ReadCloser: body, piece: max(1, int(size/8)), pause: func() { x.sleep(2 * time.Millisecond) }}
}

// A passing is a body on its way.
type passing struct {
	io.ReadCloser
	count   *atomic.Int64 // when set, of the bytes that passed
	limited bool          // end is called after left bytes
	left    int64
	end     func() error
	piece   int // when set, the most bytes of a Read, and pause comes before each
	pause   func()
}

func (b *passing) Read(p []byte) (int, error) {
	if b.limited && b.left <= 0 {
		return 0, b.end()
	}
	if b.limited {
		p = p[:min(b.left, int64(len(p)))]
	}
	if b.piece > 0 {
		b.pause()
		p = p[:min(b.piece, len(p))]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.count != nil {
		b.count.Add(int64(n))
	}
	if b.limited && err == io.EOF {
		err = nil // size was wrong: the end comes still
		b.left = 0
	}
	return n, err
}
