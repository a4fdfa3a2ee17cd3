package blocks_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestGone(t *testing.T) {
	for _, size := range []int{1000, 2 << 20} {
		s, b := newStore(), content(1, size)
		o := put(t, s, "a", b)
		c := openCache(t, s)
		r := reader(t, c, o)
		if size > 1<<20 {
			wantRead(t, r, b, 0, grain)
		}
		put(t, s, "a", b[1:])
		for range 2 {
			if _, err := r.ReadAt(t.Context(), make([]byte, 100), int64(size-100)); !errors.Is(err, blocks.ErrGone) {
				t.Errorf("%d: ReadAt of a revision that was replaced = %v", size, err)
			}
		}
		if size > 1<<20 {
			wantRead(t, r, b, 0, grain) // what was read stays
		}
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := reader(t, c, blocks.Object{Key: "a", Rev: "x", Size: 5}).ReadAt(t.Context(), make([]byte, 5), 0); !errors.Is(err, blocks.ErrGone) {
			t.Errorf("%d: ReadAt of an object that was deleted = %v", size, err)
		}
	}
}

// A hasty store answers the first GET with the object that replaces the one whose
// revision it has just checked.
type hasty struct {
	*storetest.Memory
	next []byte
	once sync.Once
}

func (h *hasty) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	h.once.Do(func() {
		_, _ = h.Put(ctx, key, bytes.NewReader(h.next), int64(len(h.next)), objstore.PutOptions{})
		cond = objstore.Cond{}
	})
	return h.Memory.Get(ctx, key, off, n, cond)
}

// A content that is replaced while it is asked for is gone.
func TestReplacedWhileAsked(t *testing.T) {
	for _, size := range []int{1000, 2 << 20} {
		b := content(1, size)
		s := &hasty{Memory: storetest.NewMemory(), next: b[:size-9]}
		o := proven(t, put(t, s, "a", b), b)
		if _, err := reader(t, open(t, blocks.Options{Store: s}), o).ReadAt(t.Context(), make([]byte, 100), 0); !errors.Is(err, blocks.ErrGone) {
			t.Errorf("%d: ReadAt = %v", size, err)
		}
	}
}

// A content of another size than it should have is none.
func TestOtherSize(t *testing.T) {
	for _, size := range []int{1000, 2 << 20} {
		s, b := newStore(), content(1, size)
		o := put(t, s, "a", b)
		o.Size -= 1
		if _, err := reader(t, openCache(t, s), o).ReadAt(t.Context(), make([]byte, 100), 0); !errors.Is(err, blocks.ErrCorrupt) {
			t.Errorf("%d: ReadAt = %v", size, err)
		}
	}
}

// spoil turns a bit of the byte at off in the first n bodies that hold it.
func spoil(s *shaky, off int64, n int64) {
	var left atomic.Int64
	left.Store(n)
	s.does(func(_ context.Context, r request, body io.ReadCloser) io.ReadCloser {
		if off >= r.off && off < r.off+r.n && left.Add(-1) >= 0 {
			return flip(body, off-r.off)
		}
		return body
	})
}

func TestWrongOnce(t *testing.T) {
	s, b := newStore(), content(1, 5000)
	o := proven(t, put(t, s, "a", b), b)
	c := openCache(t, s)
	spoil(s, 77, 1)
	wantAll(t, reader(t, c, o), b, 1000)
	if got := c.Stats().Corrupt; got != 1 {
		t.Errorf("%d wrong contents were counted", got)
	}
}

func TestWrongTwice(t *testing.T) {
	s, b := newStore(), content(1, 5000)
	o := proven(t, put(t, s, "a", b), b)
	r := reader(t, openCache(t, s), o)
	spoil(s, 77, 2)
	if _, err := r.ReadAt(t.Context(), make([]byte, 5), 0); !errors.Is(err, blocks.ErrCorrupt) {
		t.Errorf("ReadAt = %v", err)
	}
	wantAll(t, r, b, 1000) // no byte of it was given out
}

// Wherever the wrong byte is, who reads all gets an error before the end of its
// part, and who opens the content then gets the right bytes.
func TestWrongPart(t *testing.T) {
	b := content(1, 24<<20+1)
	for _, off := range []int64{0, 1 << 20, part - 1, part, 2*part + 9, 24 << 20} {
		s := newStore()
		o := proven(t, put(t, s, "a", b), b)
		c := openCache(t, s)
		r := reader(t, c, o)
		spoil(s, off, 1)
		got, err := readAll(t.Context(), r, grain)
		end := min((off/part+1)*part, o.Size)
		switch {
		case errors.Is(err, blocks.ErrCorrupt) && int64(len(got)) < end:
		case err == io.EOF && bytes.Equal(got, b): // nobody had been given a byte of it
		default:
			t.Errorf("%d: read %d bytes, then %v; the part ends at %d", off, len(got), err, end)
		}
		if _, again := r.ReadAt(t.Context(), make([]byte, 1), 0); errors.Is(err, blocks.ErrCorrupt) != errors.Is(again, blocks.ErrCorrupt) {
			t.Errorf("%d: after %v the Reader says %v", off, err, again)
		}
		wantAll(t, reader(t, c, o), b, 1<<20)
	}
}

// A store that always sends a wrong part is never believed.
func TestWrongForEver(t *testing.T) {
	b := content(1, 24<<20+1)
	for _, off := range []int64{5, part + 7, 24 << 20} {
		s := newStore()
		o := proven(t, put(t, s, "a", b), b)
		c := openCache(t, s)
		spoil(s, off, 1<<30)
		for range 3 {
			got, err := readAll(t.Context(), reader(t, c, o), 100_000)
			if !errors.Is(err, blocks.ErrCorrupt) || int64(len(got)) >= (off/part+1)*part {
				t.Errorf("%d: read %d bytes, then %v", off, len(got), err)
			}
		}
		if f, ok := c.File(o); ok {
			f.Close()
			t.Errorf("%d: File gave a wrong content", off)
		}
	}
}

// A short or broken body is an error of those who wait for it; the next read
// fetches what is missing and no more.
func TestShort(t *testing.T) {
	for _, size := range []int{1000, 4 << 20} {
		s, b := newStore(), content(1, size)
		o := proven(t, put(t, s, "a", b), b)
		c := openCache(t, s)
		r := reader(t, c, o)
		s.does(func(_ context.Context, r request, body io.ReadCloser) io.ReadCloser {
			return struct {
				io.Reader
				io.Closer
			}{io.LimitReader(body, r.n*3/4), body}
		})
		if _, err := r.ReadAt(t.Context(), make([]byte, min(size, 1<<20)), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d: ReadAt = %v", size, err)
		}
		s.does(nil)
		wantAll(t, r, b, 1<<20)
		if got := c.Stats().FromStore; got > int64(size)+2<<20 {
			t.Errorf("%d: the store sent %d bytes", size, got)
		}
	}
}

// A store that is silent is given up, before its answer and within it.
func TestSilent(t *testing.T) {
	for _, size := range []int{1000, 4 << 20} {
		s, b := newStore(), content(1, size)
		c := open(t, blocks.Options{Store: s, Deadline: 20 * time.Millisecond})
		r := reader(t, c, put(t, s, "a", b))
		s.does(func(ctx context.Context, _ request, body io.ReadCloser) io.ReadCloser { return &silent{ctx, body} })
		if _, err := r.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d: ReadAt = %v", size, err)
		}
		s.does(nil)
		eventually(t, "the silent GET has ended", func() bool {
			_, err := r.ReadAt(t.Context(), make([]byte, 10), 0)
			return err == nil
		})
	}
}

// A silent body sends nothing until its request ends.
type silent struct {
	ctx context.Context
	io.ReadCloser
}

func (s *silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// Without a disk all reads are right, and nothing is said twice.
func TestNoDisk(t *testing.T) {
	var log lines
	dir := t.TempDir()
	s, b := newStore(), content(1, 40<<20)
	o, little := proven(t, put(t, s, "a", b), b), proven(t, put(t, s, "b", b[:500]), b[:500])
	c := open(t, blocks.Options{Store: s, Dir: dir, Log: log.logger(), Memory: 64 << 20})
	replaceByFiles(t, dir)
	wantAll(t, reader(t, c, o), b, grain)
	wantAll(t, reader(t, c, little), b[:500], 100)
	wantRead(t, reader(t, c, o), b, 5<<20, 4096)
	if _, ok := c.File(o); ok {
		t.Error("File gave a content that cannot be on disk")
	}
	if got := log.count("cannot write"); got != 1 {
		t.Errorf("the log says it %d times", got)
	}
	// What memory had to let go before it was read is fetched again.
	if got := c.Stats().FromStore; got > int64(len(b))*3/2 {
		t.Errorf("the store sent %d bytes of %d", got, len(b))
	}
}

// replaceByFiles makes it impossible to make a shard's directory.
func replaceByFiles(t *testing.T, dir string) {
	t.Helper()
	root := cacheDir(t, dir)
	for i := range 256 {
		if err := os.WriteFile(shard(root, i), nil, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
}
