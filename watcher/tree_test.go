package watcher_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/watcher"
)

// TestOnlyTheSubtreeIsTouched: work is proportional to the change.
func TestOnlyTheSubtreeIsTouched(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		must(t, os.MkdirAll(filepath.Join(b.root, "a/b/c"), 0o755))
		must(t, os.MkdirAll(filepath.Join(b.root, "x/y"), 0o755))
		b.event("a", fsnotify.Create)
		b.event("x", fsnotify.Create)
		b.want(5*ms, "a", "a/b", "a/b/c", "x", "x/y")
		must(t, os.Rename(filepath.Join(b.root, "a/b"), filepath.Join(b.root, "x/b")))
		b.event("x/b", fsnotify.Create) // before the event of the old name
		b.event("a/b", fsnotify.Rename)
		b.want(10*ms, "a/b", "a/b/c", "x/b", "x/b/c")
		for dir, want := range map[string]bool{"a": true, "a/b": false, "a/b/c": false, "x": true, "x/y": true, "x/b": true, "x/b/c": true} {
			if got := b.backend.has(filepath.Join(b.root, dir)); got != want {
				t.Errorf("%s watched: %v", dir, got)
			}
		}
	})
}

// TestChmodStorm: a chmod neither walks a directory nor hands it out often.
func TestChmodStorm(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		must(t, os.MkdirAll(filepath.Join(b.root, "a/b"), 0o755))
		b.event("a", fsnotify.Create)
		b.want(5*ms, "a", "a/b")
		for range 1000 {
			b.event("a", fsnotify.Chmod)
			time.Sleep(ms)
		}
		b.want(1009*ms, "a")
	})
}

func TestObserverHearsOfIt(t *testing.T) {
	seen := &counter{}
	inBubble(t, watcher.Options{Observer: seen}, func(b *bubble) {
		b.event("f", fsnotify.Create)
		b.event("f", fsnotify.Write)
		b.event("f", fsnotify.Chmod)
		b.want(5*ms, "f")
		b.backend.errs <- fsnotify.ErrEventOverflow
		b.wantRescan(0, 6*ms, "overflow")
	})
	if seen.events != 3 || seen.overflows != 1 || seen.rescans != 2 || seen.settled != 1 || seen.watches != 1 {
		t.Errorf("%+v", seen)
	}
}

type counter struct {
	events, overflows, rescans, settled, watches int // of one goroutine each
}

func (c *counter) Event(string)          { c.events++ }
func (c *counter) Overflow()             { c.overflows++ }
func (c *counter) Rescan(string)         { c.rescans++ }
func (c *counter) Dirty(int)             {}
func (c *counter) Settled(time.Duration) { c.settled++ }
func (c *counter) Watches(n int)         { c.watches = n }

// TestClosedDirectory: what cannot be read is skipped until it can.
func TestClosedDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	root := t.TempDir()
	closed := filepath.Join(root, "closed")
	must(t, os.MkdirAll(filepath.Join(closed, "sub"), 0o755))
	must(t, os.Chmod(closed, 0))
	w := start(t, watcher.Options{Root: root})
	write(t, root, "f")
	if b := next(t, w); len(b.Paths) != 1 || b.Paths[0] != "f" {
		t.Errorf("batch %+v", b)
	}
	must(t, os.Chmod(closed, 0o755))
	comesToSee(t, w, root, "closed/sub/f")
}
