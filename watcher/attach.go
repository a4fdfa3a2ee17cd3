package watcher

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// An attachment is the watch on one root, from when it was found until it went
// away or the backend died.
type attachment struct {
	tree    *tree
	backend Backend
	died    chan struct{} // closed when the backend's events ended
	reading sync.WaitGroup
}

// attach watches what is at the root now, all of it.
func (w *Watcher) attach(ctx context.Context) (*attachment, error) {
	root, id, err := identifyRoot(w.opts.Root)
	if err != nil {
		return nil, err
	}
	if !id.dir {
		return nil, fmt.Errorf("not a directory: %w", fs.ErrInvalid)
	}
	b, err := w.opts.Backend()
	if err != nil {
		return nil, err
	}
	w.hints.take() // of another attachment
	w.expect.Store(&id)
	a := &attachment{backend: b, died: make(chan struct{})}
	a.tree = newTree(root, id, b, w.log, w.queue.touch)
	a.tree.only, a.tree.rules = w.opts.Only, w.opts.Ignore
	r := &reader{root: root, only: w.opts.Only, queue: w.queue, hints: w.hints, obs: w.obs, w: w}
	a.reading.Go(func() {
		r.run(b)
		close(a.died)
	})
	if err := a.tree.start(ctx); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// close ends the watch and waits for its reader.
func (a *attachment) close() {
	a.backend.Close()
	a.reading.Wait()
}

// attachAgain tells that the watch is lost, waits until the root can be watched
// again, and tells that too. It returns nil when ctx ends.
func (w *Watcher) attachAgain(ctx context.Context, reason string) *attachment {
	if reason == reasonRoot {
		w.expect.Store(nil)
		w.queue.clear() // deletions among them would be invented
		w.rescan(reason)
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if pause(ctx, wait) != nil {
			return nil
		}
		a, err := w.attach(ctx)
		if err == nil {
			w.rescan(reason)
			return a
		}
		w.log.Debug("root cannot be watched", "root", w.opts.Root, "err", err)
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
