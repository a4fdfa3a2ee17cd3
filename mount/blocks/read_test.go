package blocks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/mount/blocks"
)

func TestReadAt(t *testing.T) {
	for _, size := range []int{0, 1, 4095, grain, 1 << 20, 1<<20 + 1, 3<<20 + 5, part, 20<<20 + 77} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s, b := newStore(), content(uint64(size), size)
			o := proven(t, put(t, s, "a", b), b)
			c := open(t, blocks.Options{Store: s})
			wantAll(t, reader(t, c, o), b, 300_000)
			sent := c.Stats().FromStore
			if sent != int64(size) {
				t.Errorf("the store sent %d bytes of %d", sent, size)
			}
			wantAll(t, reader(t, c, o), b, 1<<20)
			if again := c.Stats().FromStore; again != sent {
				t.Errorf("reading again fetched %d bytes", again-sent)
			}
		})
	}
}

func TestOffsets(t *testing.T) {
	s, b := newStore(), content(1, 2<<20)
	c := open(t, blocks.Options{Store: s})
	r := reader(t, c, put(t, s, "a", b))
	for _, off := range []int64{2 << 20, 1 << 40} {
		if n, err := r.ReadAt(t.Context(), make([]byte, 1), off); n != 0 || err != io.EOF {
			t.Errorf("ReadAt(%d) = %d, %v; want 0, EOF", off, n, err)
		}
	}
	if _, err := r.ReadAt(t.Context(), make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadAt(-1) = %v", err)
	}
	if n, err := r.ReadAt(t.Context(), nil, 5); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing = %d, %v", n, err)
	}
}

// Scattered small reads fetch the pieces that they touch and nothing else.
func TestScattered(t *testing.T) {
	s, b := newStore(), content(2, 64<<20)
	o := proven(t, put(t, s, "a", b), b)
	c := open(t, blocks.Options{Store: s})
	r := reader(t, c, o)
	for _, off := range []int64{40 << 20, 3 << 20, 60 << 20, 17<<20 + 5, 33 << 20} {
		wantRead(t, r, b, off, 4096)
		if got, want := s.take(), []request{{off &^ (grain - 1), grain}}; !slices.Equal(got, want) {
			t.Errorf("read at %d asked for %v, want %v", off, got, want)
		}
	}
	wantRead(t, r, b, 40<<20+4096, 4096)
	if got := s.take(); got != nil {
		t.Errorf("read of the same piece asked for %v", got)
	}
}

// A run of reads is fetched in few, large and whole parts, none of it twice.
func TestRun(t *testing.T) {
	s, b := newStore(), content(3, 64<<20)
	o := proven(t, put(t, s, "a", b), b)
	c := open(t, blocks.Options{Store: s})
	wantAll(t, reader(t, c, o), b, grain)
	requests := s.take()
	var sum int64
	whole := 0
	for _, r := range requests {
		if sum += r.n; r.n == part && r.off%part == 0 {
			whole++
		}
	}
	if sum != 64<<20 || len(requests) > 16 || whole < 6 {
		t.Errorf("%d GETs, %d of whole parts, for %d bytes: %v", len(requests), whole, sum, requests)
	}
	if f, ok := c.File(o); !ok {
		t.Error("all parts were fetched, and File says no")
	} else {
		f.Close()
	}
}

// Many readers of one content, each from elsewhere, fetch nothing twice.
func TestShared(t *testing.T) {
	s, b := newStore(), content(4, 24<<20)
	o := proven(t, put(t, s, "a", b), b)
	c := open(t, blocks.Options{Store: s})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := c.Reader(o)
			defer r.Close()
			for k := range 24 {
				wantRead(t, r, b, int64((k+3*i)%24)<<20, 1<<20)
			}
		})
	}
	all.Wait()
	if got := c.Stats().FromStore; got != int64(len(b)) {
		t.Errorf("the store sent %d bytes of %d", got, len(b))
	}
}

// A read ends with its context, and the GET goes on for the next.
func TestCancelled(t *testing.T) {
	for _, size := range []int{1000, 4 << 20} {
		s, b := newStore(), content(5, size)
		o := put(t, s, "a", b)
		open, began := make(chan struct{}), make(chan struct{}, 9)
		s.does(func(_ context.Context, _ request, body io.ReadCloser) io.ReadCloser {
			began <- struct{}{}
			return &gated{body, open}
		})
		c := openCache(t, s)
		r := reader(t, c, o)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-began; cancel() }()
		if _, err := r.ReadAt(ctx, make([]byte, 1000), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%d: ReadAt = %v, want cancelled", size, err)
		}
		close(open)
		wantRead(t, r, b, 0, 1000)
		if got := len(s.take()); got != 1 {
			t.Errorf("%d: %d GETs, want the first alone", size, got)
		}
	}
}

func openCache(t *testing.T, s *shaky) *blocks.Cache { return open(t, blocks.Options{Store: s}) }

// A gated body comes when the gate opens.
type gated struct {
	io.ReadCloser
	gate <-chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.gate
	return g.ReadCloser.Read(p)
}

// Bytes are given out before the rest of their GET has come.
func TestEarly(t *testing.T) {
	s, b := newStore(), content(6, 16<<20)
	o := proven(t, put(t, s, "a", b), b)
	gate := make(chan struct{})
	s.does(func(_ context.Context, r request, body io.ReadCloser) io.ReadCloser {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(body, 256<<10), &gated{body, gate}), body}
	})
	r := reader(t, openCache(t, s), o)
	wantRead(t, r, b, 0, 256<<10)
	close(gate)
	wantAll(t, r, b, 1<<20)
}

func TestClosed(t *testing.T) {
	s, b := newStore(), content(7, 2<<20)
	c, err := blocks.Open(blocks.Options{Store: s, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	large, little := c.Reader(put(t, s, "a", b)), c.Reader(put(t, s, "b", b[:9]))
	wantRead(t, large, b, 0, 9)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*blocks.Reader{large, little} {
		if _, err := r.ReadAt(t.Context(), make([]byte, 9), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadAt of a closed cache = %v", err)
		}
		r.Close()
	}
	if err := c.Adopt(blocks.Object{}, os.Stdin); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Adopt by a closed cache = %v", err)
	}
}
