package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// A background is the services that run beside a main loop until it has ended.
type background struct {
	ctx   context.Context // ends with the first failure, or by end
	stop  context.CancelFunc
	group *errgroup.Group
}

func newBackground(ctx context.Context) background {
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	return background{ctx, stop, group}
}

// service runs f until the services end. Its failure ends all of them.
func (b background) service(name string, f func(context.Context) error) {
	b.group.Go(func() error {
		err := f(b.ctx)
		if err != nil && b.ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// end stops the services, waits for them, and returns the first failure.
func (b background) end() error {
	b.stop()
	return b.group.Wait()
}
