package watcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/watcher"
)

// BenchmarkSave measures the time from the end of a save of a lone file of 4 KiB
// to its Batch.
func BenchmarkSave(b *testing.B) {
	root := b.TempDir()
	w := start(b, watcher.Options{Root: root})
	body := make([]byte, 4<<10)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("f%d", i%100)
		if err := os.WriteFile(filepath.Join(root, name), body, 0o644); err != nil {
			b.Fatal(err)
		}
		saved := time.Now()
		if got, err := w.Next(b.Context()); err != nil || len(got.Paths) != 1 {
			b.Fatalf("batch %v, %v", got, err)
		}
		took = append(took, time.Since(saved))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCoalesce measures what the reader does with one event.
func BenchmarkCoalesce(b *testing.B) {
	root := b.TempDir()
	for _, c := range []struct {
		name  string
		paths int
		op    fsnotify.Op
	}{{"write/1", 1, fsnotify.Write}, {"write/100000", 100_000, fsnotify.Write}, {"create/100000", 100_000, fsnotify.Create}} {
		b.Run(c.name, func(b *testing.B) {
			event := watcher.Coalesce(watcher.New(watcher.Options{Root: root}))
			names := make([]string, c.paths)
			for i := range names {
				names[i] = filepath.Join(root, fmt.Sprintf("dir%d/file%d", i%50, i))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				event(fsnotify.Event{Name: names[i%len(names)], Op: c.op})
			}
		})
	}
}
