package bus

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// ErrNotAlive says that a feed does not know whether it hears everything.
var ErrNotAlive = errors.New("no word from the bus")

// Times of a feed's heart.
const (
	beatEvery = time.Second     // a fence is sent when nobody else asks for one
	silence   = 3 * time.Second // none that was sent since then came back: the bus is lost
)

// fences are the messages that a feed sends to itself. At most one is on its
// way; who asks meanwhile waits for the next, since one that was sent before
// the question answers nothing.
type fences struct {
	send func(nonce uint64) error // is quick, and does not call back
	life func() uint64            // of the connection
	up   func() bool

	mu      sync.Mutex // guards the rest
	flying  *flight    // sent and not back
	waiting *flight    // goes off when flying is back
	back    time.Time  // when the last one that came back was sent
	missed  bool       // something may be lost and has not been told
	deaf    uint64     // 1 + the life in which a subscription was denied last; 0 is never
	alive   bool       // as changed has told it
	changed chan struct{}
}

// A flight is one fence and all who wait for it.
type flight struct {
	nonce uint64 // unpredictable: nobody can send it back before we sent it
	life  uint64
	sent  time.Time
	beat  bool          // sent by the heart, which may tell of losses
	err   error         // valid when done is closed
	done  chan struct{} // closed by whoever takes the flight out
}

// join returns the flight that answers a question asked now.
func (f *fences) join() (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.living() {
		return nil, ErrNotAlive
	}
	if f.flying == nil {
		f.launch(&flight{done: make(chan struct{})})
		if f.flying == nil {
			return nil, ErrNotAlive
		}
		return f.flying, nil
	}
	if f.waiting == nil {
		f.waiting = &flight{done: make(chan struct{})}
	}
	return f.waiting, nil
}

// launch sends fl off. mu is held.
func (f *fences) launch(fl *flight) {
	fl.nonce, fl.life, fl.sent = rand.Uint64(), f.life(), time.Now()
	if err := f.send(fl.nonce); err != nil {
		fl.end(errors.Join(ErrNotAlive, err))
		return
	}
	f.flying = fl
}

func (fl *flight) end(err error) {
	fl.err = err
	close(fl.done)
}

// beat makes sure that a fence is on its way. One that is overdue is sent
// again: it was dropped with other messages. One of a former connection, or
// that is out for too long, has failed.
func (f *fences) beat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flying
	if fl != nil && (fl.life != f.life() || time.Since(fl.sent) > silence || !f.up()) {
		f.fail()
		fl = nil
	}
	if fl == nil {
		f.launch(&flight{beat: true, done: make(chan struct{})})
	} else {
		fl.beat = true
		_ = f.send(fl.nonce)
	}
	f.look()
}

// fail ends all flights. mu is held.
func (f *fences) fail() {
	for _, fl := range []*flight{f.flying, f.waiting} {
		if fl != nil {
			fl.end(ErrNotAlive)
		}
	}
	f.flying, f.waiting = nil, nil
}

// down ends all flights and says that the bus is lost.
func (f *fences) down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail()
	f.back = time.Time{}
	f.look()
}

// miss says that something may have been lost.
func (f *fences) miss() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed = true
	f.look()
}

// lapse finds out whether the bus was lost by silence until now. Whoever had
// something to announce may have stopped waiting for an answer.
func (f *fences) lapse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.back.IsZero() && time.Since(f.back) >= silence {
		f.missed = true
		f.look()
	}
}

// deny says that on this connection something is never heard. Fences come back
// all the same, and mean nothing.
func (f *fences) deny() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = f.life() + 1
	f.fail()
	f.look()
}

// hears is called with mu held.
func (f *fences) hears() bool { return f.deaf == 0 || f.deaf != f.life()+1 }

// owed reports whether the flight that came back as nonce obliges the caller
// to tell of a loss now. It is called, and then landed, by one goroutine.
func (f *fences) owed(nonce uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flying
	return f.missed && fl != nil && fl.nonce == nonce && fl.beat && time.Since(fl.sent) < silence
}

// landed ends the flight of nonce; told says that a loss was told.
func (f *fences) landed(nonce uint64, told bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flying
	if fl == nil || fl.nonce != nonce {
		return // late, sent twice, or made up
	}
	f.flying = nil
	f.back = fl.sent
	f.missed = f.missed && !told
	var err error
	if f.missed || !f.hears() {
		err = ErrNotAlive
	}
	fl.end(err)
	if next := f.waiting; next != nil {
		f.waiting = nil
		f.launch(next)
	}
	f.look()
}

// living is called with mu held.
func (f *fences) living() bool {
	return !f.missed && time.Since(f.back) < silence && f.up() && f.hears()
}

// look tells who waits that the bus was lost or is back. mu is held.
func (f *fences) look() {
	if f.alive != f.living() {
		f.alive = !f.alive
		close(f.changed)
		f.changed = make(chan struct{})
	}
}
