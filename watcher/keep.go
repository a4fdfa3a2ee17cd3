package watcher

import (
	"context"
	"maps"
	"slices"
	"time"
)

// A keeper keeps a tree in line with the disk while it is attached, and asks
// for rescans. It is the only goroutine that touches the tree.
type keeper struct {
	*attachment
	w        *Watcher
	schedule *schedule
	rootDue  time.Time // when to look at the root's identity, and at what git tracks
	version  uint64    // of the rules
}

// settledRules is how old a rule file is for certain when nobody writes it.
const settledRules = 2 * time.Second

// keep runs until ctx ends or the attachment is lost, and returns the reason of
// the Rescan that the loss asks for.
func (w *Watcher) keep(ctx context.Context, a *attachment) string {
	k := &keeper{attachment: a, w: w, schedule: newSchedule(w.opts.Timing, now())}
	k.rootDue, k.version = now().Add(w.opts.Timing.Root), w.opts.Ignore.Version()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-a.died:
			w.log.Warn("backend ended, starting another one")
			return reasonError
		case <-w.hints.wake:
		case <-timer.C:
		}
		if !k.step(ctx) {
			w.log.Warn("root moved or went away", "root", w.opts.Root)
			return reasonRoot
		}
		next, _ := k.schedule.next(k.tree)
		timer.Reset(max(0, min(time.Until(next), time.Until(k.rootDue))))
	}
	return ""
}

// step does what is due, and reports false when the root is lost.
func (k *keeper) step(ctx context.Context) bool {
	k.tree.begin()
	s := k.w.hints.take()
	if s.root || !k.rootStays() {
		return false
	}
	if s.reason != "" {
		k.schedule.ask(s.reason, now())
	}
	for _, p := range slices.Sorted(maps.Keys(s.names)) { // a directory before what is in it
		k.tree.rebind(ctx, p, s.names[p])
	}
	if due, reason := k.schedule.next(k.tree); !due.After(now()) {
		k.rescan(ctx, reason)
	}
	k.w.denied.Store(k.tree.count[denied] > 0)
	k.w.obs.Watches(k.tree.count[watched])
	return true
}

// rootStays looks at the root's identity when that is due: an unmount, or
// another mount over it, gives no event. Nor does what git tracks.
func (k *keeper) rootStays() bool {
	at := now()
	if at.Before(k.rootDue) {
		return true
	}
	k.rootDue = at.Add(k.w.opts.Timing.Root)
	if v := k.w.opts.Ignore.Version(); v != k.version {
		k.version = v
		k.schedule.ask(reasonTracked, at)
	}
	real, id, err := identifyRoot(k.w.opts.Root)
	return err == nil && real == k.tree.root && id == k.tree.top.id
}

// rescan hands out a Rescan. Directories that came up while events were lost
// are watched before, so that what changes after the reader's scan is seen.
func (k *keeper) rescan(ctx context.Context, reason string) {
	rules := k.schedule.rules
	k.schedule.looked(now())
	if rules {
		k.w.opts.Ignore.Settle(0)
	} else { // one that is being written will ask for a rescan of its own
		k.w.opts.Ignore.Settle(settledRules)
	}
	k.tree.begin()
	k.tree.sweep(ctx)
	if ctx.Err() == nil {
		k.w.rescan(reason)
	}
}
