package watcher_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// start runs a watcher until the test ends and takes its first Batch.
func start(t testing.TB, o watcher.Options) *watcher.Watcher {
	t.Helper()
	if o.Log == nil && os.Getenv("WATCHER_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w := watcher.New(o)
	run(t, w)
	if b := next(t, w); b.Rescan != "start" || len(b.Paths) > 0 {
		t.Fatalf("first batch %+v, want a rescan for the start alone", b)
	}
	return w
}

// run runs w until the test ends.
func run(t testing.TB, w *watcher.Watcher) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// next returns the next Batch, within patience.
func next(t testing.TB, w *watcher.Watcher) manifest.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("no batch: %v; %d dirty", err, w.Dirty())
	}
	return b
}

// nextRescan returns the next Batch that has a Rescan.
func nextRescan(t testing.TB, w *watcher.Watcher) manifest.Batch {
	t.Helper()
	for {
		if b := next(t, w); b.Rescan != "" {
			return b
		}
	}
}

// comesToSee writes p again and again until w, which is about to watch the
// root, names it.
func comesToSee(t testing.TB, w *watcher.Watcher, root string, p manifest.Path) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		write(t, root, string(p))
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		b, _ := w.Next(ctx)
		cancel()
		if slices.Contains(b.Paths, p) {
			return
		}
	}
	t.Fatalf("%s is not seen", p)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, root, name string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o644))
}

func TestRunNeedsARoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file")
	for _, root := range []string{"absent", "file"} {
		w := watcher.New(watcher.Options{Root: filepath.Join(dir, root)})
		if err := w.Run(t.Context()); err == nil {
			t.Errorf("%s: no error", root)
		}
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	w := watcher.New(watcher.Options{Root: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
