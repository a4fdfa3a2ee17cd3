package bus_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy stands before a server and can stop passing bytes on, as a network
// that swallows them would.
type proxy struct {
	listener net.Listener
	to       string

	mu     sync.Mutex // guards the rest, and is held while the proxy holds
	open   []net.Conn
	broken bool
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(&wg) })
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }
func (p *proxy) hold()       { p.mu.Lock() }
func (p *proxy) release()    { p.mu.Unlock() }

// wait returns when the proxy does not hold.
func (p *proxy) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// cut ends all connections and lets nobody in until mend.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

func (p *proxy) accept(wg *sync.WaitGroup) {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, near, far)
		if p.broken {
			near.Close()
			far.Close()
		}
		p.mu.Unlock()
		wg.Go(func() { p.pass(near, far) })
		wg.Go(func() { p.pass(far, near) })
	}
}

func (p *proxy) pass(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.wait()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
