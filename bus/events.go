package bus

import (
	"context"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/manifest"
)

// A Notice is one event as it came over the bus.
type Notice struct {
	Event manifest.Event
	Raw   []byte // as published
	Lost  int    // events that came just before and were dropped since the reader was slow
}

// Events yields every verified event of a storage that arrives while ctx lasts,
// each once, in the order of arrival. The queue in between holds 256 events;
// what does not fit is lost, and counted in the next Notice. The error is about
// the subscription; nothing is yielded then.
func (c *Conn) Events(ctx context.Context, storage string, v *Verifier) (iter.Seq[Notice], error) {
	storage = Token(storage)
	sub, err := c.nc.SubscribeSync(liveSubject(storage))
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", storage, err)
	}
	if err := sub.SetPendingLimits(pendingEvents, pendingEvents*MaxEvent); err != nil {
		return nil, fmt.Errorf("follow %s: %w", storage, err)
	}
	if c.Up() { // events announced after we return are not missed
		flush, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		_ = c.nc.FlushWithContext(flush)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
	return eventLoop{sub, storage, v, map[string]*slot{}}.yield(ctx), nil
}

// eventLoop is what one call of Events keeps.
type eventLoop struct {
	sub      *nats.Subscription
	storage  string
	verifier *Verifier
	seen     map[string]*slot // by source; their events stay nil
}

func (l eventLoop) yield(ctx context.Context) iter.Seq[Notice] {
	return func(yield func(Notice) bool) {
		defer l.sub.Unsubscribe()
		lost := 0
		for ctx.Err() == nil && l.sub.IsValid() {
			n, err := l.sub.NextMsgWithContext(ctx)
			if err != nil {
				continue // the end, or word of a loss, which Dropped tells too
			}
			e, ok := l.accept(ctx, n)
			if !ok {
				continue
			}
			total, _ := l.sub.Dropped()
			if !yield(Notice{Event: e, Raw: n.Data, Lost: total - lost}) {
				return
			}
			lost = total
		}
	}
}

func (l eventLoop) accept(ctx context.Context, n *nats.Msg) (manifest.Event, bool) {
	e, err := l.verifier.verify(ctx, l.storage, parseMessage(n))
	if err != nil {
		l.verifier.count(err)
		return e, false
	}
	s := l.seen[e.Source]
	if s == nil {
		s = new(slot)
		l.seen[e.Source] = s
	}
	return e, s.news(e)
}
