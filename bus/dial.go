package bus

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// errNotYet is what the first attempt gets, before anything is dialled.
var errNotYet = errors.New("not connected yet")

// A dialer opens connections for nats.go, with two ways of its own.
//
// It refuses until its gate is open. nats.Connect makes its first attempt in
// the caller's goroutine and could hold up a start by the dial timeout for
// every server; refused at once, it goes on in the background, and the first
// wait for the next attempt (delay) opens the gate and lasts no time.
//
// For the embedded bus it looks the address up at every attempt, so that a
// client finds whoever owns the bus by then. Its file is some 20 µs away.
type dialer struct {
	net net.Dialer
	dir string // of the address file; "" dials what it is asked to

	mu    sync.Mutex // guards the rest
	open  bool
	token string // of the address that was dialled last
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, host string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		return nil, errNotYet
	}
	if d.dir != "" {
		a, err := ReadAddress(d.dir)
		if err != nil {
			return nil, err
		}
		if host, err = a.host(); err != nil {
			return nil, err
		}
		d.token = a.Token
	}
	return d.net.Dial(network, host)
}

// lastToken returns the token that belongs to the last Dial; nats.go asks for
// it after every one.
func (d *dialer) lastToken() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.token
}

// delay returns how long to wait before the next round of attempts: anything up
// to 200 ms, doubled with every round up to a ceiling. A thousand workers that
// lost one server must not come back in step.
func (d *dialer) delay(attempts int) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		d.open = true
		return 0
	}
	ceiling := 15 * time.Second
	if d.dir != "" {
		ceiling = time.Second // a file and a loopback port: looking costs nothing
	}
	return fullJitter(200*time.Millisecond<<min(attempts-1, 10), ceiling)
}

func fullJitter(d, ceiling time.Duration) time.Duration {
	return rand.N(min(d, ceiling) + 1)
}

// around returns d changed by up to a fifth either way.
func around(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

func netDialer(o Options) net.Dialer {
	return net.Dialer{Timeout: cmp.Or(o.DialTimeout, 5*time.Second)}
}
