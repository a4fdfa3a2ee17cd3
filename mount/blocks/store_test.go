package blocks_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

const (
	grain = 128 << 10
	part  = 8 << 20
)

// A request is one GET that the store was asked for.
type request struct{ off, n int64 }

// A shaky store does to every GET what its hook says, and remembers it.
type shaky struct {
	*storetest.Memory

	mu       sync.Mutex // guards what follows
	requests []request
	hook     func(ctx context.Context, r request, body io.ReadCloser) io.ReadCloser
}

func newStore() *shaky { return &shaky{Memory: storetest.NewMemory()} }

func (s *shaky) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	r := request{off, n}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	hook := s.hook
	s.mu.Unlock()
	body, info, err := s.Memory.Get(ctx, key, off, n, cond)
	if err == nil && hook != nil {
		body = hook(ctx, r, body)
	}
	return body, info, err
}

// does sets what is done to bodies; nil is nothing.
func (s *shaky) does(hook func(context.Context, request, io.ReadCloser) io.ReadCloser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// take returns the requests since the last take.
func (s *shaky) take() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// content returns n bytes that are the same for every seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n+8)
	rng := rand.NewPCG(seed, 1)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n]
}

// put stores b and returns the object, without anything that proves it.
func put(t testing.TB, s objstore.Store, key string, b []byte) blocks.Object {
	t.Helper()
	info, err := s.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), objstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return blocks.Object{Key: key, Rev: info.Rev, Size: int64(len(b))}
}

// proven returns o with the hash of its content b, and those of its parts.
func proven(t testing.TB, o blocks.Object, b []byte) blocks.Object {
	t.Helper()
	var err error
	o.PartSize = manifest.PartSize(o.Size, 0)
	if o.Hash, o.Parts, err = manifest.HashReader(bytes.NewReader(b), o.PartSize); err != nil {
		t.Fatal(err)
	}
	return o
}

// open returns a cache that is closed, and leaves nothing behind, at the end of
// the test.
func open(t testing.TB, o blocks.Options) *blocks.Cache {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := blocks.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// reader returns a Reader that is closed at the end of the test.
func reader(t testing.TB, c *blocks.Cache, o blocks.Object) *blocks.Reader {
	r := c.Reader(o)
	t.Cleanup(r.Close)
	return r
}

// wantRead reads n bytes at off and compares them.
func wantRead(t testing.TB, r *blocks.Reader, want []byte, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	got, err := r.ReadAt(t.Context(), p, off)
	left := max(0, int64(len(want))-off)
	if int64(got) != min(n, left) || err != nil && (err != io.EOF || left >= n) || err == nil && left < n {
		t.Fatalf("ReadAt(%d bytes at %d of %d) = %d, %v", n, off, len(want), got, err)
	}
	if got > 0 && !bytes.Equal(p[:got], want[off:off+int64(got)]) {
		t.Fatalf("ReadAt(%d bytes at %d) gave other bytes", n, off)
	}
}

// wantAll reads all of the content in pieces of n bytes.
func wantAll(t testing.TB, r *blocks.Reader, want []byte, n int64) {
	t.Helper()
	for off := int64(0); off <= int64(len(want)); off += n {
		wantRead(t, r, want, off, n)
	}
}

// readAll reads in a row until an error, and returns what it got.
func readAll(ctx context.Context, r *blocks.Reader, n int) ([]byte, error) {
	var all []byte
	for p := make([]byte, n); ; {
		got, err := r.ReadAt(ctx, p, int64(len(all)))
		if all = append(all, p[:got]...); err != nil {
			return all, err
		}
	}
}

// eventually waits until something that goroutines do has happened.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// flip returns a body with one byte changed, at at from its beginning.
func flip(body io.ReadCloser, at int64) io.ReadCloser { return &flipped{body, at} }

type flipped struct {
	io.ReadCloser
	at int64 // bytes until then
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}
