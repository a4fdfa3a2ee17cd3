package main

import (
	"context"
	"time"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// A lastWord tells the workers of other machines that a storage is gone. There
// is no such event: they are told of a generation that is not there, look for
// it, and find no bucket. Without a bus they find that at their next poll.
type lastWord struct {
	announcer *lateAnnouncer
	head      manifest.Event
}

// beginLastWord prepares it while the bucket is still there: workers verify our
// key by the bucket, and keep it. It returns nil when nobody can be told.
func (p *program) beginLastWord(ctx context.Context, t target) *lastWord {
	store, err := p.openStore(ctx, t, "", nil)
	if err != nil {
		return nil // whoever deletes the bucket says so
	}
	_, pos, err := syncer.OpenLog(store, p.flags.source).Load(ctx)
	if err != nil {
		return nil // no log, no bucket: nobody follows
	}
	var seal string
	key, err := bus.LoadOrCreateKey(p.places.state)
	if err == nil {
		seal, err = syncer.PublishWriter(ctx, store, key.ID(), key.Public())
	}
	if err != nil {
		p.logger().Info("workers of other machines will not be told of the deletion", "err", err)
		return nil
	}
	w := &lastWord{announcer: &lateAnnouncer{p: p, key: key, token: t.token()}}
	w.head = manifest.Event{Storage: t.token(), Source: p.flags.source, Writer: key.ID(), Seal: seal, Epoch: pos.Epoch,
		Generation: pos.Generation, Prev: pos.Generation - 1, Commit: pos.Commit, Time: time.Now().UTC(), Count: 1}
	w.announcer.Announce(w.head)
	w.announcer.flush(ctx)
	return w
}

// say says it, after the bucket went.
func (w *lastWord) say(ctx context.Context) {
	if w == nil {
		return
	}
	next := w.head
	next.Prev, next.Generation, next.Commit, next.Time = next.Generation, next.Generation+1, manifest.Hash{}, time.Now().UTC()
	w.announcer.Announce(next)
	w.announcer.leave(ctx)
}

// give gives it up.
func (w *lastWord) give(ctx context.Context) {
	if w != nil {
		w.announcer.leave(ctx)
	}
}
