package s3

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/skyagent/skyagent/objstore/patience"
)

// A direct client sends requests without a body, GET and HEAD, on the caller's
// own goroutine: the transport of net/http has two for every connection, and
// handing each request and each answer over to them costs more than the rest
// of it, which is what bounds a pull of many small files. All others, and
// those that go through a proxy, it leaves to next.
type direct struct {
	next      aws.HTTPClient
	transport *http.Transport // for its dialing, TLS and proxy
	limits    patience.Limits // kept by deadlines, which cost less

	mu   sync.Mutex // guards idle
	idle map[string][]*conn
}

const idleTime = time.Minute // servers close what is idle for longer

func newDirect(transport *http.Transport, next patient) *direct {
	return &direct{next: next, transport: transport, limits: next.Limits, idle: make(map[string][]*conn)}
}

// A conn is a connection that serves one request at a time.
type conn struct {
	net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	raw   net.Conn  // beneath TLS
	place string    // where it leads: scheme and host
	since time.Time // idle since
}

// Do implements aws.HTTPClient. A connection that the server closed while it
// was idle is replaced.
func (d *direct) Do(req *http.Request) (*http.Response, error) {
	if !canPeek || req.Body != nil || req.Method != http.MethodGet && req.Method != http.MethodHead || d.proxied(req) {
		return d.next.Do(req)
	}
	resp, err := d.send(req)
	if err != nil {
		return nil, &url.Error{Op: req.Method, URL: req.URL.String(), Err: err} // as an http.Client's
	}
	return resp, nil
}

func (d *direct) send(req *http.Request) (*http.Response, error) {
	for {
		c, err := d.take(req)
		if err != nil {
			return nil, err
		}
		resp, err := d.exchange(req, c)
		if err == nil {
			return resp, nil
		}
		fresh := c.since.IsZero()
		c.Close()
		switch {
		case req.Context().Err() != nil:
			return nil, req.Context().Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, patience.ErrStalled
		case fresh:
			return nil, err
		}
	}
}

func (d *direct) proxied(req *http.Request) bool {
	if d.transport.Proxy == nil {
		return false
	}
	via, err := d.transport.Proxy(req)
	return via != nil || err != nil
}

// take returns an idle connection, the youngest that is quiet, or a new one. A
// server that says something unasked is about to close, or out of step: its
// words must not be taken for an answer.
func (d *direct) take(req *http.Request) (*conn, error) {
	place := req.URL.Scheme + "://" + req.URL.Host
	for {
		c := d.youngest(place)
		if c == nil {
			return d.dial(req.Context(), req.URL, place)
		}
		if quiet(c.raw) {
			return c, nil
		}
		c.Close()
	}
}

func (d *direct) youngest(place string) *conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.idle[place]
	if len(list) == 0 {
		return nil
	}
	d.idle[place] = list[:len(list)-1]
	return list[len(list)-1]
}

func (d *direct) dial(ctx context.Context, u *url.URL, place string) (*conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	nc, err := d.transport.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	raw := nc
	if u.Scheme == "https" {
		if nc, err = d.handshake(ctx, nc, u.Hostname()); err != nil {
			return nil, err
		}
	}
	return &conn{Conn: nc, raw: raw, in: bufio.NewReaderSize(nc, 64<<10), out: bufio.NewWriter(nc), place: place}, nil
}

func (d *direct) handshake(ctx context.Context, nc net.Conn, host string) (net.Conn, error) {
	config := d.transport.TLSClientConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, d.transport.TLSHandshakeTimeout)
	defer cancel()
	tc := tls.Client(nc, config)
	err := tc.HandshakeContext(ctx)
	if err == nil {
		return tc, nil
	}
	nc.Close()
	var record tls.RecordHeaderError
	if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch
	}
	return nil, err
}

// put keeps a connection for the next request, and closes those that have been
// idle for too long.
func (d *direct) put(c *conn) {
	c.since = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.idle[c.place]
	for len(list) > 0 && (c.since.Sub(list[0].since) > idleTime || len(list) >= idleConns) {
		list[0].Close()
		list = list[1:]
	}
	d.idle[c.place] = append(list, c)
}

// exchange sends req and reads the head of its answer. The end of the context
// breaks the connection.
func (d *direct) exchange(req *http.Request, c *conn) (*http.Response, error) {
	stop := context.AfterFunc(req.Context(), func() { c.Close() })
	resp, err := d.ask(req, c)
	if err != nil {
		stop()
		return nil, err
	}
	b := &answerBody{ReadCloser: resp.Body, direct: d, conn: c, ctx: req.Context(), stop: stop, keep: !resp.Close}
	if resp.Body == http.NoBody || req.Method == http.MethodHead {
		b.end(true)
		return resp, nil
	}
	resp.Body = b
	return resp, nil
}

func (d *direct) ask(req *http.Request, c *conn) (*http.Response, error) {
	if err := c.SetDeadline(time.Now().Add(d.limits.Answer)); err != nil {
		return nil, err
	}
	if err := req.Write(c.out); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	for {
		resp, err := http.ReadResponse(c.in, req)
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
	}
}

// An answerBody is the body of an answer, which gives the connection back when
// it was read to its end.
type answerBody struct {
	io.ReadCloser
	direct *direct
	conn   *conn
	ctx    context.Context // of the request: the body lives no longer
	stop   func() bool
	keep   bool
	over   bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.over {
		return 0, io.EOF
	}
	b.conn.SetReadDeadline(time.Now().Add(b.direct.limits.Stall))
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		b.end(true)
	case b.ctx.Err() != nil:
		err = b.ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = patience.ErrStalled
	}
	return n, err
}

// Close lets go of the connection. What is left of the body would have to be
// read first, and may be long.
func (b *answerBody) Close() error {
	b.end(false)
	return nil
}

// end gives the connection back when it is whole, and the context has not
// broken it.
func (b *answerBody) end(whole bool) {
	if b.over {
		return
	}
	b.over = true
	if b.stop() && whole && b.keep && b.conn.in.Buffered() == 0 {
		b.direct.put(b.conn)
		return
	}
	b.conn.Close()
}
