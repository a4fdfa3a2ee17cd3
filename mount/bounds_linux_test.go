package mount

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// Memory and disk that TestBounds allows, in bytes.
const (
	boundsMemory = 64 << 20  // of the cache
	boundsDisk   = 128 << 20 // of the cache
	// boundsHeap is the cache's memory, what 200 readers have on their way
	// through the kernel (1 MiB each), and as much for the garbage collector.
	boundsHeap = 2 * (boundsMemory + 200<<20)
)

// TestBounds holds 10,000 files open and reads 200 others at the same time,
// many times what the cache may take of memory and disk; and ends with no
// goroutine and no descriptor more than it began with.
func TestBounds(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatal(err)
	}
	const small, large = 10_000, 200
	store := &pattern{}
	for i := range large {
		store.add(fmt.Sprintf("large/%03d", i), 3<<20+123)
	}
	for i := range small {
		store.add(fmt.Sprintf("small/%05d", i), 16<<10)
	}
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	dir, disk := t.TempDir(), t.TempDir()
	cache, err := blocks.Open(blocks.Options{Dir: disk, Store: store, Bucket: "b", Memory: boundsMemory, MaxBytes: boundsDisk})
	if err != nil {
		t.Fatal(err)
	}
	unmount := runMount(t, Options{Dir: dir, Store: store, Cache: cache, State: t.TempDir(), ReadOnly: true,
		Sources: func(context.Context) ([]string, error) { return nil, nil }})
	began := heap()

	var open []*os.File
	for i := range small {
		open = append(open, openFirst(t, filepath.Join(dir, fmt.Sprintf("small/%05d", i))))
	}
	var readers errgroup.Group
	for i := range large {
		readers.Go(func() error { return readPattern(filepath.Join(dir, fmt.Sprintf("large/%03d", i)), 3<<20+123) })
	}
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	peak, used := store.peak.Load()-began, cache.Stats().DiskUse
	t.Logf("heap at most %d MiB, %d MiB on disk", peak>>20, used>>20)
	if peak > boundsHeap {
		t.Errorf("heap grew by %d MiB, want at most %d", peak>>20, boundsHeap>>20)
	}
	if most := int64(boundsDisk + 16<<20); used > most {
		t.Errorf("cache has %d MiB on disk, want at most %d", used>>20, most>>20)
	}
	for _, f := range open {
		f.Close()
	}
	unmount()
	if err := cache.Close(); err != nil {
		t.Error(err)
	}
	awaitAtMost(t, "goroutines", goroutines, func() int { return runtime.NumGoroutine() })
	awaitAtMost(t, "descriptors", descriptors, func() int { return openDescriptors(t) })
}

// runMount mounts until what it returns is called, or the test ends.
func runMount(t *testing.T, o Options) (unmount func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- New(o).Run(ctx, func() { close(ready) }) }()
	var over atomic.Bool
	unmount = func() {
		cancel()
		if over.Swap(true) {
			return
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(unmount)
	select {
	case <-ready:
	case err := <-done:
		over.Store(true)
		t.Fatalf("mount: %v", err)
	}
	return unmount
}

// openFirst opens a file and reads its first page.
func openFirst(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	page := make([]byte, 4<<10)
	if _, err := f.ReadAt(page, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func readPattern(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	want := io.NewSectionReader(patternBytes{}, 0, size)
	got, expected := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(want, expected)
		if _, e := io.ReadFull(f, got[:n]); e != nil && n > 0 {
			return e
		}
		if !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("%s has other bytes", path)
		}
		if err != nil {
			return nil
		}
	}
}

// awaitAtMost waits until count is at most want: what ends does so in its own
// time.
func awaitAtMost(t *testing.T, what string, want int, count func() int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); count() > want; <-tick.C {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Errorf("%d %s, want %d\n%s", count(), what, want, stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A pattern is a store whose objects take no memory: all have the same bytes.
type pattern struct {
	objstore.Store
	list []objstore.Info // in order
	byID map[string]objstore.Info
	gets atomic.Int64
	peak atomic.Int64 // of the heap, in bytes
}

func (p *pattern) add(key string, size int64) {
	if p.byID == nil {
		p.byID = map[string]objstore.Info{}
	}
	info := objstore.Info{Key: key, Size: size, Rev: objstore.Rev("rev-" + key), ModTime: time.Unix(1_700_000_000, 0)}
	p.byID[key] = info
	p.list = append(p.list, info)
}

func (p *pattern) List(_ context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		for _, info := range p.list {
			if strings.HasPrefix(info.Key, prefix) && info.Key > after && !yield(info, nil) {
				return
			}
		}
	}
}

func (p *pattern) Head(_ context.Context, key string) (objstore.Info, error) {
	info, ok := p.byID[key]
	if !ok {
		return info, fs.ErrNotExist
	}
	return info, nil
}

func (p *pattern) Get(_ context.Context, key string, off, n int64, _ objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	if p.gets.Add(1)%32 == 0 {
		now, before := heapNow(), p.peak.Load()
		for now > before && !p.peak.CompareAndSwap(before, now) {
			before = p.peak.Load()
		}
	}
	info, ok := p.byID[key]
	if !ok {
		return nil, info, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(patternBytes{}, off, n)), info, nil
}

// patternBytes are the bytes of all objects of a pattern.
type patternBytes struct{}

func (patternBytes) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := off + int64(i)
		p[i] = byte(at) ^ byte(at>>10)
	}
	return len(p), nil
}
