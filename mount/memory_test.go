package mount

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// BenchmarkTree loads a bucket of a million files and tells how many bytes of
// memory each of them takes, then and once the kernel has looked all of them
// up, and how many at the most while they were loaded.
func BenchmarkTree(b *testing.B) {
	const files = 1_000_000
	for _, perDir := range []int{10, 1000, files} {
		b.Run(fmt.Sprintf("%d in a directory", perDir), func(b *testing.B) {
			for b.Loop() {
				store := listing{files: files, perDir: perDir, began: heap()}
				none := func(context.Context) ([]string, error) { return nil, nil }
				m := New(Options{Store: &store, Sources: none})
				if err := m.load(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(heap()-store.began)/files, "B/file")
				b.ReportMetric(float64(store.peak-store.began)/files, "loading-B/file")
				m.tree.root.below(m.tree.take)
				b.ReportMetric(float64(heap()-store.began)/files, "known-B/file")
				if m.tree.files != files {
					b.Fatalf("tree has %d files, want %d", m.tree.files, files)
				}
				m.cancel()
			}
		})
	}
}

// TestTreeMemory holds a file of the tree to 300 bytes. Memory, unlike time,
// does not depend on what else the machine does.
func TestTreeMemory(t *testing.T) {
	const files, most = 200_000, 300
	store := listing{files: files, perDir: 10, began: heap()}
	m := New(Options{Store: &store, Sources: func(context.Context) ([]string, error) { return nil, nil }})
	defer m.cancel()
	if err := m.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.tree.root.below(m.tree.take)
	if each := (heap() - store.began) / files; each > most {
		t.Errorf("a file takes %d bytes of memory, want at most %d", each, most)
	}
	if m.tree.files != files {
		t.Errorf("tree has %d files, want %d", m.tree.files, files)
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	return heapNow()
}

func heapNow() int64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// A listing is a store that lists files, and has nothing else.
type listing struct {
	objstore.Store
	files, perDir int
	began, peak   int64 // bytes of the heap
}

func (l *listing) List(_ context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		when := time.Unix(1_700_000_000, 0)
		for i := range l.files {
			info := objstore.Info{
				Key:  fmt.Sprintf("datasets/%07d/sample-%07d.jpeg", i/l.perDir, i),
				Size: 100_000 + int64(i), ModTime: when, Rev: objstore.Rev(fmt.Sprintf("%032x", i)),
			}
			if !yield(info, nil) {
				return
			}
			if i%10_000 == 0 {
				l.peak = max(l.peak, heapNow())
			}
		}
	}
}
