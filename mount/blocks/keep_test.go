package blocks_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/mount/blocks"
)

func TestPut(t *testing.T) {
	s, b := newStore(), content(1, 3000)
	o := proven(t, put(t, s, "a", b), b)
	c := openCache(t, s)
	mine := bytes.Clone(b)
	c.Put(o, mine)
	clear(mine) // the cache has its own
	wantAll(t, reader(t, c, o), b, 1000)
	other := o
	other.Rev = "other"
	c.Put(other, b[1:])
	c.Put(other, append([]byte("x"), b[1:]...))
	if got := s.take(); got != nil {
		t.Errorf("the store was asked for %v", got)
	}
	if _, err := reader(t, c, other).ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, blocks.ErrGone) {
		t.Errorf("content with another size or hash was kept: %v", err)
	}
}

// writeFile returns a file that holds b, open as flag says.
func writeFile(t *testing.T, dir string, b []byte, flag int) *os.File {
	t.Helper()
	path := filepath.Join(dir, "staged")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAdopt(t *testing.T) {
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
		for _, size := range []int{1000, 5 << 20, 20<<20 + 1} {
			t.Run(fmt.Sprint(flag, size), func(t *testing.T) {
				dir := t.TempDir() // on the cache's file system: a link is possible
				s, b := newStore(), content(1, size)
				o := proven(t, put(t, s, "a", b), b)
				c := open(t, blocks.Options{Store: s, Dir: dir})
				r := reader(t, c, o)
				wantRead(t, r, b, int64(size)/2, 100)
				s.take()
				f := writeFile(t, dir, b, flag)
				if err := c.Adopt(o, f); err != nil {
					t.Fatal(err)
				}
				if flag == os.O_RDWR {
					if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
						t.Fatal(err)
					}
				}
				wantAll(t, r, b, 1<<20)
				wantAll(t, reader(t, c, o), b, 100_000)
				wantFile(t, c, o, b)
				if got := s.take(); got != nil {
					t.Errorf("the store was asked for %v", got)
				}
			})
		}
	}
}

// wantFile wants File to give b.
func wantFile(t *testing.T, c *blocks.Cache, o blocks.Object, b []byte) {
	t.Helper()
	f, ok := c.File(o)
	if !ok {
		t.Fatal("File says no")
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, b) {
		t.Errorf("File gave %d bytes of %d, or others, %v", len(got), len(b), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("File gave a file that can be written")
	}
}

func TestAdoptWrong(t *testing.T) {
	for _, size := range []int{1000, 5 << 20, 20 << 20} {
		dir := t.TempDir()
		s, b := newStore(), content(1, size)
		o := proven(t, put(t, s, "a", b), b)
		c := open(t, blocks.Options{Store: s, Dir: dir})
		wrong := bytes.Clone(b)
		wrong[size/2] ^= 1
		for _, bad := range [][]byte{wrong, b[1:]} {
			if err := c.Adopt(o, writeFile(t, dir, bad, os.O_RDONLY)); !errors.Is(err, blocks.ErrCorrupt) {
				t.Errorf("%d: Adopt = %v", size, err)
			}
		}
		wantAll(t, reader(t, c, o), b, 1<<20)
		left, err := os.ReadDir(filepath.Join(cacheDir(t, dir), "temp"))
		if err != nil || len(left) > 0 {
			t.Errorf("%d: left behind: %v, %v", size, left, err)
		}
	}
}

func TestFile(t *testing.T) {
	s := newStore()
	c := openCache(t, s)
	for _, size := range []int{700, 1 << 20, 1<<20 + 1, 20 << 20} {
		b := content(uint64(size), size)
		o := proven(t, put(t, s, fmt.Sprint(size), b), b)
		if _, ok := c.File(o); ok {
			t.Errorf("%d: File gave what was never read", size)
		}
		r := reader(t, c, o)
		wantRead(t, r, b, 0, 100)
		wantAll(t, r, b, 1<<20)
		eventually(t, "File", func() bool {
			f, ok := c.File(o)
			if ok {
				f.Close()
			}
			return ok
		})
		wantFile(t, c, o, b)
	}
}

// A large content that is there from before is checked behind File's back.
func TestFileLater(t *testing.T) {
	if testing.Short() {
		t.Skip("needs 80 MiB of disk")
	}
	dir := t.TempDir()
	s, b := newStore(), content(1, 80<<20)
	o := proven(t, put(t, s, "a", b), b)
	c, err := blocks.Open(blocks.Options{Store: s, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, reader(t, c, o), b, 1<<20)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, blocks.Options{Store: s, Dir: dir})
	eventually(t, "File", func() bool {
		f, ok := c.File(o)
		if ok {
			f.Close()
		}
		return ok
	})
	wantFile(t, c, o, b)
}

// some returns n small objects.
func some(t testing.TB, s *shaky, n int) (objects []blocks.Object, contents [][]byte) {
	t.Helper()
	for i := range n {
		b := content(uint64(i), 100+i*37%20_000)
		contents = append(contents, b)
		objects = append(objects, proven(t, put(t, s, fmt.Sprint("f", i), b), b))
	}
	return objects, contents
}

func TestPrefetch(t *testing.T) {
	s := newStore()
	objects, contents := some(t, s, 1000)
	c := openCache(t, s)
	c.Prefetch(objects)
	for i, o := range objects {
		wantAll(t, reader(t, c, o), contents[i], 1<<20)
	}
	eventually(t, "all wishes are granted", func() bool { return len(s.take()) == 0 })
	c.Prefetch(objects)
	c.Prefetch([]blocks.Object{{Key: "none", Rev: "x", Size: 5}, {Key: "large", Rev: "x", Size: 2 << 20}, {Key: "empty"}})
	eventually(t, "the wish for what is not there is tried", func() bool {
		r := s.take()
		if len(r) > 1 {
			t.Fatalf("the store was asked for %v", r)
		}
		return len(r) == 1
	})
	// A reader and a wish that begin at one moment may both ask.
	if got := c.Stats().Requests; got < 1001 || got > 1020 {
		t.Errorf("%d GETs, want hardly more than one for each content", got)
	}
}

// Hundreds of readers and thousands of open Readers keep to the memory and the
// descriptors that there are.
func TestCrowd(t *testing.T) {
	s, b := newStore(), content(1, 1<<20+1)
	objects := make([]blocks.Object, 400)
	for i := range objects {
		objects[i] = put(t, s, fmt.Sprint(i), b)
	}
	c := open(t, blocks.Options{Store: s, Memory: 16 << 20})
	var readers []*blocks.Reader
	for i := range 10_000 {
		readers = append(readers, reader(t, c, objects[i%len(objects)]))
	}
	before := descriptorsOpen(t)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for k := range 10 {
				r := readers[i+200*k]
				wantRead(t, r, b, 0, grain)
				wantRead(t, r, b, int64(i%8)*grain, 4096)
			}
		})
	}
	all.Wait()
	if now := descriptorsOpen(t); now-before > 600 {
		t.Errorf("%d descriptors for %d contents", now-before, len(objects))
	}
}

// Close leaves no goroutine and no descriptor, whatever is under way.
func TestNothingLeft(t *testing.T) {
	s, b := newStore(), content(1, 40<<20)
	o := proven(t, put(t, s, "a", b), b)
	objects, _ := some(t, s, 300)
	goroutines, before := runtime.NumGoroutine(), descriptorsOpen(t)
	for range 5 {
		c, err := blocks.Open(blocks.Options{Store: s, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		r := c.Reader(o)
		c.Prefetch(objects)
		wantRead(t, r, b, 0, 1<<20)
		wantRead(t, r, b, 1<<20, 1<<20)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	if now := descriptorsOpen(t); now > before {
		t.Errorf("%d descriptors are left", now-before)
	}
}

// descriptorsOpen returns 0 where this cannot be seen.
func descriptorsOpen(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("descriptors are not counted: %v", err)
	}
	return len(entries)
}

func TestStatsOfNothing(t *testing.T) {
	c := openCache(t, newStore())
	eventually(t, "the directory is measured", func() bool { return c.Stats() == blocks.Stats{} })
}

// Packs are looked through for what others wrote while this process writes one.
func TestPacksOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := newStore()
	objects, contents := some(t, s, 400)
	caches := []*blocks.Cache{open(t, blocks.Options{Store: s, Dir: dir}), open(t, blocks.Options{Store: s, Dir: dir})}
	var all sync.WaitGroup
	for k, c := range caches {
		all.Go(func() {
			for i := range objects {
				i = (i + 200*k) % len(objects)
				wantAll(t, reader(t, c, objects[i]), contents[i], 1<<20)
			}
		})
	}
	all.Wait()
	for i, o := range objects {
		eventually(t, "both have it", func() bool { return holds(caches[0], o) && holds(caches[1], o) })
		wantFile(t, caches[i%2], o, contents[i])
	}
}
