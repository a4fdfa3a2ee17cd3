package blocks_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/mount/blocks"
)

// cacheDir returns where the cache in dir keeps its files.
func cacheDir(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "blocks-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("cache in %s: %v, %v", dir, found, err)
	}
	return found[0]
}

func shard(root string, i int) string { return filepath.Join(root, fmt.Sprintf("%02x", i)) }

// files returns the files of contents, and how many bytes they take on disk.
func files(t testing.TB, dir string) (paths []string, size int64) {
	t.Helper()
	err := filepath.WalkDir(cacheDir(t, dir), func(path string, d fs.DirEntry, err error) error {
		dir := filepath.Base(filepath.Dir(path))
		if err != nil || d.IsDir() || len(dir) != 2 && dir != "packs" {
			return err
		}
		st, err := d.Info()
		if err == nil {
			paths, size = append(paths, path), size+blocks.Allocated(st)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths, size
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), words)
}

// What was read is there after a restart, without the store.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, b := newStore(), content(1, 20<<20)
	o, little := proven(t, put(t, s, "a", b), b), put(t, s, "b", b[:500])
	for i := range 3 {
		c, err := blocks.Open(blocks.Options{Store: s, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, reader(t, c, o), b, 1<<20)
		wantAll(t, reader(t, c, little), b[:500], 500)
		if f, ok := c.File(o); !ok {
			t.Errorf("%d: File says no", i)
		} else {
			f.Close()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if sent := c.Stats().FromStore; i > 0 && sent > 0 {
			t.Errorf("%d: the store sent %d bytes again", i, sent)
		}
	}
}

// Two caches in one directory use what the other has fetched, also while both
// are open.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	s, b := newStore(), content(1, 20<<20)
	o, little := proven(t, put(t, s, "a", b), b), put(t, s, "b", b[:500])
	one, two := open(t, blocks.Options{Store: s, Dir: dir}), open(t, blocks.Options{Store: s, Dir: dir})
	r := reader(t, two, o)
	wantRead(t, r, b, 19<<20, 100)
	wantAll(t, reader(t, one, o), b, 1<<20)
	wantAll(t, reader(t, one, little), b[:500], 500)
	eventually(t, "all is on disk", func() bool { _, ok := one.File(o); return ok })
	before := two.Stats().FromStore
	wantAll(t, r, b, 1<<20)
	eventually(t, "the second looks again", func() bool { return holds(two, little) })
	if got := two.Stats().FromStore - before; got != 0 {
		t.Errorf("the second fetched %d bytes", got)
	}
}

// Contents of other buckets, keys, revisions and sizes are other contents.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	s1, s2 := newStore(), newStore()
	b := content(1, 3000)
	o1, o2 := put(t, s1, "a", b[:1000]), put(t, s2, "a", b[1000:2000])
	o3 := put(t, s1, "a/", b[2000:])
	if o1.Rev != o2.Rev {
		t.Fatal("the test needs the same key and revision twice")
	}
	c1 := open(t, blocks.Options{Store: s1, Dir: dir, Bucket: "one"})
	c2 := open(t, blocks.Options{Store: s2, Dir: dir, Bucket: "two"})
	for range 2 {
		wantAll(t, reader(t, c1, o1), b[:1000], 1000)
		wantAll(t, reader(t, c2, o2), b[1000:2000], 1000)
		wantAll(t, reader(t, c1, o3), b[2000:], 1000)
	}
}

// The limit holds within a large GET, the latest used stay, and what is open stays readable.
func TestEviction(t *testing.T) {
	dir := t.TempDir()
	const limit = 24 << 20
	s := newStore()
	c := open(t, blocks.Options{Store: s, Dir: dir, MaxBytes: limit})
	first := content(99, 2<<20)
	o := put(t, s, "first", first)
	wantAll(t, reader(t, c, o), first, 1<<20)
	eventually(t, "File", func() bool { _, ok := c.File(o); return ok })
	f, _ := c.File(o)
	defer f.Close()
	for i := range 30 {
		b := content(uint64(i), 2<<20)
		wantAll(t, reader(t, c, put(t, s, fmt.Sprint(i), b)), b, 1<<20)
		if use := c.Stats().DiskUse; use > limit+part {
			t.Errorf("%d: %d bytes on disk", i, use)
		}
	}
	if _, size := files(t, dir); size > limit+part {
		t.Errorf("%d bytes on disk at the end", size)
	}
	if c.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
	got := make([]byte, len(first))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, first) {
		t.Errorf("the file that was evicted reads otherwise: %v", err)
	}
}

// A content larger than the cache can be read, by many.
func TestLargerThanCache(t *testing.T) {
	s, b := newStore(), content(3, 48<<20)
	o := proven(t, put(t, s, "a", b), b)
	c := open(t, blocks.Options{Store: s, MaxBytes: 12 << 20, Memory: 32 << 20})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			r := c.Reader(o)
			defer r.Close()
			wantAll(t, r, b, 1<<20)
		})
	}
	all.Wait()
}

// Whatever happens to the files between two starts, no read gives other bytes.
func TestDamage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s := newStore()
	contents := make([][]byte, 12)
	objects := make([]blocks.Object, len(contents))
	for i := range contents {
		contents[i] = content(uint64(i), []int{700, 90_000, 1 << 20, 1<<20 + 1, 3 << 20, 17 << 20}[i%6])
		objects[i] = put(t, s, fmt.Sprint(i), contents[i])
		if i%3 == 0 {
			objects[i] = proven(t, objects[i], contents[i])
		}
	}
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		c, err := blocks.Open(blocks.Options{Store: s, Dir: dir, MaxBytes: 20 << 20, Memory: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			i := rng.IntN(len(objects))
			off := rng.Int64N(objects[i].Size)
			r := c.Reader(objects[i])
			for range 1 + rng.IntN(4) {
				n := 1 + rng.Int64N(400_000)
				wantRead(t, r, contents[i], off, n)
				off += n
			}
			r.Close()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		damage(t, rng, dir)
	}
}

// damage does something bad to a third of the files.
func damage(t *testing.T, rng *rand.Rand, dir string) {
	t.Helper()
	paths, _ := files(t, dir)
	for _, path := range paths {
		if rng.IntN(3) > 0 {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b = damaged(rng, b); b == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// damaged returns b with a bit turned, shorter, longer, a page of zeros, or nil.
func damaged(rng *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	at := rng.IntN(len(b))
	switch rng.IntN(5) {
	case 0:
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		b = b[:at]
	case 2:
		b = append(b, b[:at]...)
	case 3:
		clear(b[at&^4095 : min(len(b), at&^4095+4096)])
	default:
		return nil
	}
	return b
}

// holds reports whether all of a content is in the cache.
func holds(c *blocks.Cache, o blocks.Object) bool {
	f, ok := c.File(o)
	if ok {
		f.Close()
	}
	return ok
}
