package watcher

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// Options say what to watch. Only Root is needed.
type Options struct {
	Root     string                  // the source's directory; a symbolic link to one is followed
	Only     string                  // a name in Root: nothing else in it is watched; "" watches all
	Log      *slog.Logger            // nil discards
	Observer Observer                // nil observes nothing
	Backend  func() (Backend, error) // nil means NewBackend
	Timing   Timing                  // zero fields take their defaults
	Ignore   *ignore.Rules           // directories that they ignore are not watched; nil ignores nothing

	// MaxDirty bounds the paths held in memory, dirty and settled ones
	// together; beyond it they collapse into a Rescan "overflow". 0 means 256 Ki,
	// which takes about 60 MB.
	MaxDirty int
}

// A Watcher watches one source. All methods may be called at the same time;
// Next is for one reader.
type Watcher struct {
	opts  Options
	log   *slog.Logger
	obs   Observer
	hints *hints
	queue *queue
	alarm func() (alarm, error)
	probe prober

	expect atomic.Pointer[identity] // the root that is watched; nil while there is none
	denied atomic.Bool              // some directory could not be read: a chmod may open it
}

// New returns a Watcher of o.Root. It starts nothing.
func New(o Options) *Watcher {
	o.Timing = o.Timing.orDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Backend == nil {
		o.Backend = NewBackend
	}
	if o.MaxDirty == 0 {
		o.MaxDirty = 256 << 10
	}
	if abs, err := filepath.Abs(o.Root); err == nil {
		o.Root = abs
	}
	w := &Watcher{opts: o, log: o.Log, obs: o.Observer, hints: newHints(o.MaxDirty), alarm: newAlarm}
	w.queue = newQueue(o.Timing, o.MaxDirty, o.Observer, w.overflow)
	w.probe = newProbe(o.Root, w.rootHolds)
	return w
}

// Run watches until ctx ends and then returns nil. It returns an error when the
// root cannot be watched at the start; whatever fails later is logged, tried
// again, and covered by a Rescan. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	a, err := w.alarm()
	if err != nil {
		return fmt.Errorf("create timer: %w", err)
	}
	s := &settler{queue: w.queue, probe: w.probe, alarm: a, obs: w.obs}
	wg.Go(func() { s.run(ctx) })

	at, err := w.attach(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watch %s: %w", w.opts.Root, err)
	}
	w.rescan(reasonStart)
	for {
		reason := w.keep(ctx, at)
		at.close()
		if ctx.Err() != nil {
			return nil
		}
		if at = w.attachAgain(ctx, reason); at == nil {
			return nil
		}
	}
}

// Next blocks until something has settled, or a rescan is due, and returns all
// of it. Its error is ctx's.
func (w *Watcher) Next(ctx context.Context) (manifest.Batch, error) {
	for {
		if b, ok := w.queue.take(); ok {
			w.rulesIn(b)
			return b, nil
		}
		select {
		case <-ctx.Done():
			return manifest.Batch{}, ctx.Err()
		case <-w.queue.settled:
		}
	}
}

// rulesIn asks for a rescan when rules are in a batch: they have settled, and
// other directories may have to be watched from now on.
func (w *Watcher) rulesIn(b manifest.Batch) {
	decides := func(p manifest.Path) bool { return ignore.Decides(p.Base()) }
	if w.opts.Ignore != nil && slices.ContainsFunc(b.Paths, decides) {
		w.hints.ask(reasonRules)
	}
}

// Retry makes paths dirty again, because the reader saw them change while it
// read them. They settle by the usual rule, but not before a time that doubles
// with every Retry of the same path in a row.
func (w *Watcher) Retry(paths ...manifest.Path) {
	for _, p := range paths {
		w.queue.retry(p)
	}
}

// Notify hands paths to Next at once: the caller knows that they are complete.
func (w *Watcher) Notify(paths ...manifest.Path) { w.queue.notify(paths) }

// Dirty returns the number of paths that are dirty, or settled and not yet
// taken by Next.
func (w *Watcher) Dirty() int { return w.queue.dirty() }

// overflow drops what is dirty in favour of a look at the whole tree.
func (w *Watcher) overflow() {
	w.obs.Overflow()
	w.hints.ask(reasonOverflow)
}

// rescan hands a Rescan to Next.
func (w *Watcher) rescan(reason string) {
	w.obs.Rescan(reason)
	w.log.Info("rescan", "root", w.opts.Root, "reason", reason)
	w.queue.rescan(reason)
}

// rootHolds reports whether the root is still the directory that is watched.
func (w *Watcher) rootHolds() bool {
	want := w.expect.Load()
	if want == nil {
		return false
	}
	_, got, err := identifyRoot(w.opts.Root)
	return err == nil && got == *want
}

// now is the time that timers see, so that a test can hold the clock.
func now() time.Time { return time.Now() }
