package bus

import (
	"context"
	"iter"

	"github.com/skyagent/skyagent/manifest"
)

// A Notice is one event as it came over the bus.
type Notice struct {
	Event manifest.Event
	Raw   []byte // as published
	Lost  int    // events that came just before and were dropped since the reader was slow
}

// Events yields every verified event of a storage that arrives while ctx lasts,
// in the order of arrival, repetitions included. The queue in between holds 256
// events; what does not fit is lost, and counted in the next Notice. The error
// is about the subscription; nothing is yielded then.
func (c *Conn) Events(ctx context.Context, storage string, v *Verifier) (iter.Seq[Notice], error) {
	storage = Token(storage)
	sub, err := c.nc.SubscribeSync(liveSubject(storage))
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(pendingEvents, pendingEvents*MaxEvent); err != nil {
		return nil, err
	}
	return func(yield func(Notice) bool) {
		defer sub.Unsubscribe()
		lost := 0
		for ctx.Err() == nil {
			n, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				// The end, or word of a loss that Dropped tells too.
				if ctx.Err() != nil || !sub.IsValid() {
					return
				}
				continue
			}
			e, err := v.verify(ctx, storage, parseMessage(n))
			if err != nil {
				v.count(err)
				continue
			}
			total, _ := sub.Dropped()
			if !yield(Notice{Event: e, Raw: n.Data, Lost: total - lost}) {
				return
			}
			lost = total
		}
	}, nil
}
