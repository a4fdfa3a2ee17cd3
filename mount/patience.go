package mount

import (
	"context"
	"time"
)

// progressKey finds what a patient context is told of progress by.
type progressKey struct{}

// patient returns a context that ends when d has passed since the last
// progress, with the cause context.DeadlineExceeded. An upload takes as long as
// it takes: only a store that hangs ends it.
func patient(parent context.Context, d time.Duration) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	timer := time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	ctx = context.WithValue(ctx, progressKey{}, func() { timer.Reset(d) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// progress gives the store as much time as at first, where ctx is patient.
func progress(ctx context.Context) {
	if renew, ok := ctx.Value(progressKey{}).(func()); ok {
		renew()
	}
}
