package pace_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/objstore/pace"
)

// A server answers a request after latency while it runs no more than capacity
// of them; each one more costs all the others time.
type server struct {
	latency  time.Duration
	capacity int
	throttle int // answers 503 beyond so many; 0 is never
}

// run asks for n rounds of as many requests as the window allows, on a clock
// of its own, and returns the sizes that it saw.
func (s server) run(w *pace.Window, busy bool, n int) []int {
	now := time.Unix(1, 0)
	var sizes []int
	for range n {
		size := w.Size()
		took := s.latency * time.Duration(max(size, s.capacity)) / time.Duration(s.capacity)
		began := now
		now = now.Add(took)
		for i := range size {
			if s.throttle > 0 && i >= s.throttle {
				w.Throttled(began, now)
			}
			if busy {
				w.Full()
			}
			w.End(now, 4<<10)
		}
		sizes = append(sizes, w.Size())
	}
	return sizes
}

func TestWindowOpensWhileItPays(t *testing.T) {
	far := server{latency: 30 * time.Millisecond, capacity: 1000}
	if sizes := far.run(pace.NewWindow(64), true, 500); sizes[len(sizes)-1] < 60 {
		t.Errorf("far away, with room for 1,000: %v, want 60 or more in the end", sizes)
	}
	near := server{latency: time.Millisecond, capacity: 8}
	sizes := near.run(pace.NewWindow(256), true, 5000)
	if last := sizes[len(sizes)-1]; last > 32 {
		t.Errorf("with room for 8: ends at %d, opened for nothing", last)
	}
	if sizes := far.run(pace.NewWindow(64), false, 500); sizes[len(sizes)-1] != 16 {
		t.Errorf("while nobody waits: %v, want 16 all the time", sizes)
	}
	if size := pace.NewWindow(3).Size(); size != 3 {
		t.Errorf("of at most 3: %d", size)
	}
	top := far.run(pace.NewWindow(64), true, 2000)
	for _, size := range top[1000:] {
		if size != 64 {
			t.Fatalf("at the most that is allowed the window moves: %v", top[1000:])
		}
	}
}

func TestWindowHalvesOnThrottling(t *testing.T) {
	w := pace.NewWindow(64)
	now := time.Unix(1, 0)
	for range 5 { // of one crowd: one reason
		w.Throttled(now, now.Add(time.Millisecond))
	}
	if w.Size() != 8 {
		t.Errorf("after five answers to one crowd: %d, want 8", w.Size())
	}
	one := pace.NewWindow(1)
	one.Throttled(now, now.Add(time.Second))
	if one.Size() != 1 {
		t.Errorf("of at most 1, throttled: %d", one.Size())
	}
	w.Throttled(now.Add(time.Second), now.Add(time.Second))
	w.Throttled(now.Add(2*time.Second), now.Add(2*time.Second))
	w.Throttled(now.Add(3*time.Second), now.Add(3*time.Second))
	if w.Size() != 2 {
		t.Errorf("after three more: %d, want 2", w.Size())
	}
	strict := server{latency: 20 * time.Millisecond, capacity: 1000, throttle: 20}
	over := 0
	sizes := strict.run(pace.NewWindow(256), true, 2000)
	for _, size := range sizes {
		if size > 20 {
			over++
		}
	}
	if over == 0 || over > len(sizes)/10 {
		t.Errorf("with 20 allowed, %d of %d rounds ran more: want a try now and then", over, len(sizes))
	}
}

// A transport answers when it is told.
type transport struct {
	running, most atomic.Int64
	answer        chan *http.Response
}

func (tr *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if n := tr.running.Add(1); n > tr.most.Load() {
		tr.most.Store(n)
	}
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
	}
	resp := <-tr.answer
	tr.running.Add(-1)
	if resp == nil {
		return nil, errors.New("no answer")
	}
	return resp, nil
}

func ok(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}
}

func request(ctx context.Context, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://store/key", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	return req
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &transport{answer: make(chan *http.Response)}
		p := pace.New(pace.Limits{Transfers: 3}).Transport(tr)
		var group sync.WaitGroup
		bodies := make(chan io.Closer, 100)
		for range 20 {
			group.Go(func() {
				resp, err := p.RoundTrip(request(t.Context(), ""))
				if err == nil {
					bodies <- resp.Body
				}
			})
		}
		synctest.Wait()
		for range 3 {
			tr.answer <- ok("x")
		}
		synctest.Wait()
		if n := tr.running.Load(); n != 0 {
			t.Errorf("%d requests run while three bodies are open", n)
		}
		for i := 3; i < 20; i++ { // one closed, one more runs; a failed one frees its place too
			(<-bodies).Close()
			synctest.Wait()
			if n := tr.running.Load(); n != 1 {
				t.Fatalf("%d requests run after one body was closed, want 1", n)
			}
			if i%4 != 0 {
				tr.answer <- ok("x")
				synctest.Wait()
				continue
			}
			tr.answer <- nil
			synctest.Wait()
			if i++; i < 20 {
				tr.answer <- ok("x")
				synctest.Wait()
			}
		}
		group.Wait()
		if n := tr.most.Load(); n != 3 {
			t.Errorf("%d requests ran at a time, want 3", n)
		}
	})
}

func TestCancelledWaitGivesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &transport{answer: make(chan *http.Response)}
		p := pace.New(pace.Limits{Transfers: 1}).Transport(tr)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 3)
		try := func(ctx context.Context) {
			resp, err := p.RoundTrip(request(ctx, ""))
			if err == nil {
				resp.Body.Close()
			}
			errs <- err
		}
		go try(t.Context())
		synctest.Wait()
		go try(ctx)
		synctest.Wait()
		go try(t.Context())
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled one: %v", err)
		}
		tr.answer <- ok("")
		tr.answer <- ok("")
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Error(err)
		}
	})
}

func TestRates(t *testing.T) {
	for name, tc := range map[string]struct {
		limits pace.Limits
		want   time.Duration // for ten requests of 100 KiB each way
	}{
		"none":     {pace.Limits{}, 0},
		"requests": {pace.Limits{Requests: 2}, 4500 * time.Millisecond},
		"upload":   {pace.Limits{Upload: 100 << 10}, 9360 * time.Millisecond}, // the first 64 KiB are free
		"download": {pace.Limits{Download: 200 << 10}, 4680 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &transport{answer: make(chan *http.Response)}
			p := pace.New(tc.limits).Transport(tr)
			began := time.Now()
			content := strings.Repeat("x", 100<<10)
			for range 10 {
				go func() { tr.answer <- ok(content) }()
				resp, err := p.RoundTrip(request(t.Context(), content))
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(content)) || err != nil {
					t.Fatalf("%s: read %d bytes, %v", name, n, err)
				}
				resp.Body.Close()
			}
			if took := time.Since(began).Round(10 * time.Millisecond); took != tc.want {
				t.Errorf("%s: took %v of the test's clock, want %v", name, took, tc.want)
			}
		})
	}
}
