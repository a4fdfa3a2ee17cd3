package watcher_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
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

// BenchmarkBurst measures 20,000 files of 4 KiB written into 50 new directories:
// from the first write to the last path handed out, and from the last write.
func BenchmarkBurst(b *testing.B) {
	const files = 20_000
	body := make([]byte, 4<<10)
	var all, rest time.Duration
	for b.Loop() {
		root := b.TempDir()
		w := start(b, watcher.Options{Root: root})
		began, wrote := time.Now(), make(chan time.Time, 1)
		go func() {
			for i := range files {
				dir := filepath.Join(root, fmt.Sprint("d", i%50))
				if i < 50 {
					must(b, os.Mkdir(dir, 0o755))
				}
				must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), body, 0o644))
			}
			wrote <- time.Now()
		}()
		for seen := map[manifest.Path]bool{}; len(seen) < files+50; {
			batch := next(b, w)
			if batch.Rescan != "" {
				b.Fatalf("rescan %q", batch.Rescan)
			}
			for _, p := range batch.Paths {
				seen[p] = true
			}
		}
		all += time.Since(began)
		rest += time.Since(<-wrote)
	}
	b.ReportMetric(files*float64(b.N)/all.Seconds(), "files/s")
	b.ReportMetric(float64(rest.Milliseconds())/float64(b.N), "ms-after-last")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStart measures the time to the first Batch of a tree of 10,100
// directories.
func BenchmarkStart(b *testing.B) {
	root := b.TempDir()
	for i := range 10_000 {
		must(b, os.MkdirAll(filepath.Join(root, fmt.Sprintf("%d/%d", i%100, i)), 0o755))
	}
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		w := watcher.New(watcher.Options{Root: root})
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		next(b, w)
		cancel()
		must(b, <-done)
	}
}
