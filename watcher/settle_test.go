package watcher_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// A fakeBackend reports what a test tells it to.
type fakeBackend struct {
	events chan fsnotify.Event
	errs   chan error
	close  sync.Once

	mu      sync.Mutex // guards all below
	watched map[string]bool
	refuse  func(dir string) error // nil refuses nothing
}

func newFake() *fakeBackend {
	return &fakeBackend{events: make(chan fsnotify.Event, 100), errs: make(chan error), watched: map[string]bool{}}
}

func (f *fakeBackend) Add(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse(dir); err != nil {
			return err
		}
	}
	f.watched[dir] = true
	return nil
}

func (f *fakeBackend) Remove(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watched, dir)
	return nil
}

func (f *fakeBackend) refuses(refuse func(string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

func (f *fakeBackend) has(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watched[dir]
}

func (f *fakeBackend) Events() <-chan fsnotify.Event { return f.events }
func (f *fakeBackend) Errors() <-chan error          { return f.errs }
func (f *fakeBackend) Close() error {
	f.close.Do(func() { close(f.errs); close(f.events) })
	return nil
}

// A bubble is a watcher under a held clock, with a fake backend and prober.
type bubble struct {
	*testing.T
	w       *watcher.Watcher
	root    string
	backend *fakeBackend
	began   time.Time
	opened  int // backends

	mu     sync.Mutex // guards all below
	states map[manifest.Path]watcher.State
	size   int64
	looks  int
}

// inBubble runs test with a watcher that has handed out its first Batch.
func inBubble(t *testing.T, o watcher.Options, test func(*bubble)) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, root: root, states: map[manifest.Path]watcher.State{}}
		o.Root = root
		o.Backend = func() (watcher.Backend, error) {
			b.opened++
			b.backend = newFake()
			return b.backend, nil
		}
		b.w = watcher.New(o)
		watcher.Hold(b.w, b.look)
		run(t, b.w)
		if got := next(t, b.w); got.Rescan != "start" {
			t.Fatalf("first batch %+v", got)
		}
		b.began = time.Now()
		test(b)
	})
}

func (b *bubble) look(p manifest.Path) (watcher.State, int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	return b.states[p], b.size
}

func (b *bubble) is(p manifest.Path, s watcher.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.states[p] = s
}

func (b *bubble) event(p string, op fsnotify.Op) {
	b.backend.events <- fsnotify.Event{Name: filepath.Join(b.root, p), Op: op}
	synctest.Wait()
}

// want checks that the next Batch comes at a time since the start, within a
// tenth of a millisecond, and has these paths.
func (b *bubble) want(at time.Duration, paths ...manifest.Path) {
	b.Helper()
	got := b.next()
	slices.Sort(got.Paths)
	since := time.Since(b.began)
	if got.Rescan != "" || !slices.Equal(got.Paths, paths) || since < at || since > at+100*time.Microsecond {
		b.Fatalf("at %v batch %+v, want %v at %v", since, got, paths, at)
	}
}

// next is without the patience of real time.
func (b *bubble) next() manifest.Batch {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	got, err := b.w.Next(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return got
}

// wantRescan checks that the next Batch is a Rescan, at a time since the start.
func (b *bubble) wantRescan(from, to time.Duration, reason string) {
	b.Helper()
	got := b.next()
	if since := time.Since(b.began); got.Rescan != reason || since < from || since > to {
		b.Fatalf("at %v batch %+v, want rescan %q in [%v, %v]", since, got, reason, from, to)
	}
}

const ms = time.Millisecond

func TestSettleAfterQuiet(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.event("f", fsnotify.Create)
		for range 4 {
			time.Sleep(3 * ms)
			b.event("f", fsnotify.Write)
		}
		b.event("g", fsnotify.Write)
		if got := b.w.Dirty(); got != 2 {
			t.Errorf("%d dirty, want 2", got)
		}
		b.want(17*ms, "f", "g")
		if got := b.w.Dirty(); got != 0 {
			t.Errorf("%d dirty after the batch", got)
		}
	})
}

func TestSettleMergesUntilTaken(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.event("f", fsnotify.Write)
		time.Sleep(20 * ms)
		b.event("g", fsnotify.Write)
		b.event("f", fsnotify.Chmod)
		time.Sleep(20 * ms)
		b.want(40*ms, "f", "g")
	})
}

func TestSettleNotWhileOpenForWriting(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Busy)
		b.event("f", fsnotify.Write)
		time.Sleep(90 * ms)
		b.is("f", watcher.Free)
		b.want(105*ms, "f") // looks at 5, 25, 45, 65, 85, 105
	})
}

func TestSettleLooksAtOnceAfterTheLastWrite(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Busy)
		b.event("f", fsnotify.Write)
		time.Sleep(5003 * ms) // looks are half a second apart by now
		b.is("f", watcher.Free)
		b.event("f", fsnotify.Write)
		b.want(5008*ms, "f")
	})
}

func TestSettleHandsOutWhatStaysOpen(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("log", watcher.Busy)
		b.event("log", fsnotify.Write)
		b.want(10*time.Second, "log")
		if got := b.w.Dirty(); got != 0 {
			t.Errorf("%d dirty, want 0: nothing happened since", got)
		}
		b.want(20*time.Second, "log")
		b.is("log", watcher.Free)
		b.want(20*time.Second+500*ms, "log")
		time.Sleep(time.Minute)
		if b.w.Dirty() != 0 || b.looks > 120 {
			t.Errorf("%d dirty, %d looks", b.w.Dirty(), b.looks)
		}
	})
}

func TestSettleHandsOutWhatIsNeverQuiet(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		for time.Since(b.began) < 9999*ms {
			b.event("log", fsnotify.Write)
			time.Sleep(3 * ms)
		}
		b.want(10*time.Second, "log")
		if b.looks > 2 {
			t.Errorf("%d looks at a file that was never quiet", b.looks)
		}
	})
}

func TestSettleDeletionsTwiceAsLong(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Gone)
		b.event("f", fsnotify.Remove)
		b.want(10*ms, "f")
	})
}

func TestSettleSaveByRename(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Gone)
		b.is("tmp", watcher.Gone)
		b.event("tmp", fsnotify.Create)
		b.event("f", fsnotify.Rename)
		time.Sleep(7 * ms)
		b.is("f", watcher.Free)
		b.event("f", fsnotify.Create)
		b.want(10*ms, "tmp")
		b.want(12*ms, "f")
	})
}

func TestSettleBySize(t *testing.T) {
	for _, c := range []struct {
		size int64
		want time.Duration
	}{{1<<20 - 1, 200 * ms}, {1 << 20, 500 * ms}, {64<<20 - 1, 500 * ms}, {64 << 20, 2 * time.Second}, {4 << 30, 2 * time.Second}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			inBubble(t, watcher.Options{}, func(b *bubble) {
				b.size = c.size
				b.is("f", watcher.Unknown)
				b.event("f", fsnotify.Write)
				time.Sleep(100 * ms)
				b.event("f", fsnotify.Write)
				b.want(100*ms+c.want, "f")
			})
		})
	}
}

func TestRetryBacksOff(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		at := time.Duration(0)
		for _, wait := range []int{20, 40, 80, 160, 320, 640, 1000, 1000} {
			b.w.Retry("f")
			at += time.Duration(wait) * ms
			b.want(at, "f")
		}
		time.Sleep(time.Minute)
		b.w.Retry("f")
		b.want(at+time.Minute+20*ms, "f")
	})
}

func TestNotifyIsAtOnce(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Busy)
		b.event("f", fsnotify.Write)
		b.w.Notify("f", "g")
		b.want(0, "f", "g")
		if b.w.Dirty() != 0 {
			t.Errorf("%d dirty", b.w.Dirty())
		}
	})
}

// A name that cannot be a Path is in no batch, but the tree is looked at, so
// that somebody counts it; our own directory is nobody's business.
func TestInvalidNamesAreNotReported(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		for _, p := range []string{".skyagent", ".skyagent/x", ".skyagent/bad\xff"} {
			b.event(p, fsnotify.Create)
		}
		b.event("d/.skyagent", fsnotify.Create)
		b.want(5*ms, "d/.skyagent")
	})
	for _, p := range []string{"bad\xff", "d/bad\xff/x"} {
		inBubble(t, watcher.Options{}, func(b *bubble) {
			b.event(p, fsnotify.Create)
			b.wantRescan(0, ms, "name")
			b.event("f", fsnotify.Write)
			b.want(5*ms, "f")
		})
	}
}

func TestTooManyDirtyPathsCollapse(t *testing.T) {
	inBubble(t, watcher.Options{MaxDirty: 10}, func(b *bubble) {
		for i := range 11 {
			b.event(fmt.Sprint("f", i), fsnotify.Write)
		}
		b.wantRescan(0, ms, "overflow")
		b.event("f", fsnotify.Write)
		b.want(5*ms, "f")
	})
}

func TestOverflowsAreSpaced(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		at := time.Duration(0)
		for _, wait := range []int{0, 1, 2, 4, 8, 16, 32, 60, 60} {
			b.backend.errs <- fsnotify.ErrEventOverflow
			at += time.Duration(wait) * time.Second
			b.wantRescan(at, at+ms, "overflow")
		}
		time.Sleep(5 * time.Minute)
		b.backend.errs <- fmt.Errorf("something else")
		at += 5 * time.Minute
		b.wantRescan(at, at+ms, "error")
	})
}

func TestOverflowWatchesWhatItMissed(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		must(t, os.MkdirAll(filepath.Join(b.root, "a/b"), 0o755))
		b.backend.errs <- fsnotify.ErrEventOverflow
		b.wantRescan(0, ms, "overflow")
		if !b.backend.has(filepath.Join(b.root, "a/b")) {
			t.Error("a/b is not watched")
		}
		must(t, os.RemoveAll(filepath.Join(b.root, "a")))
		b.backend.errs <- fsnotify.ErrEventOverflow
		b.wantRescan(time.Second, time.Second+ms, "overflow")
		if b.backend.has(filepath.Join(b.root, "a/b")) {
			t.Error("a/b is still watched")
		}
	})
}

func TestIntervalRescan(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.wantRescan(9*time.Minute, 11*time.Minute, "interval")
		b.wantRescan(18*time.Minute, 22*time.Minute, "interval")
	})
}

func TestExhaustedWatchesArePolled(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.backend.refuses(func(string) error { return syscall.ENOSPC })
		must(t, os.MkdirAll(filepath.Join(b.root, "a/b"), 0o755))
		b.event("a", fsnotify.Create)
		b.want(5*ms, "a", "a/b")
		b.wantRescan(30*time.Second, 31*time.Second, "limit")
		b.wantRescan(60*time.Second, 61*time.Second, "limit")
		b.backend.refuses(nil)
		b.wantRescan(90*time.Second, 91*time.Second, "limit")
		if !b.backend.has(filepath.Join(b.root, "a/b")) {
			t.Error("a/b is not watched although there are watches again")
		}
		b.wantRescan(10*time.Minute, 13*time.Minute, "interval")
	})
}

func TestUnreadableDirectoryIsSkipped(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.backend.refuses(func(dir string) error {
			if filepath.Base(dir) == "closed" {
				return syscall.EACCES
			}
			return nil
		})
		must(t, os.MkdirAll(filepath.Join(b.root, "closed/sub"), 0o755))
		must(t, os.MkdirAll(filepath.Join(b.root, "open"), 0o755))
		b.event("closed", fsnotify.Create)
		b.event("open", fsnotify.Create)
		b.want(5*ms, "closed", "open")
		if !b.backend.has(filepath.Join(b.root, "open")) {
			t.Error("open is not watched")
		}
		b.backend.refuses(nil)
		b.event("closed", fsnotify.Chmod)
		b.want(10*ms, "closed", "closed/sub")
		if !b.backend.has(filepath.Join(b.root, "closed/sub")) {
			t.Error("closed/sub is not watched after the chmod")
		}
	})
}

func TestBackendThatEndsIsReplaced(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.backend.Close()
		b.wantRescan(0, time.Second, "error")
		if b.opened != 2 {
			t.Errorf("%d backends", b.opened)
		}
		at := time.Since(b.began)
		b.event("f", fsnotify.Write)
		b.want(at+5*ms, "f")
	})
}

func TestRootReplacedWithoutAnEvent(t *testing.T) {
	inBubble(t, watcher.Options{}, func(b *bubble) {
		b.is("f", watcher.Busy)
		b.event("f", fsnotify.Write)
		must(t, os.Rename(b.root, b.root+".old"))
		must(t, os.MkdirAll(filepath.Join(b.root, "new"), 0o755))
		b.wantRescan(0, 1001*ms, "root")
		if b.w.Dirty() != 0 {
			t.Error("what was dirty in the old root still is")
		}
		b.wantRescan(time.Second, 2*time.Second, "root")
		if !b.backend.has(filepath.Join(b.root, "new")) {
			t.Error("the new root is not watched")
		}
	})
}
