package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/open"
)

// openStore returns the target's store with retries, and measured when set is
// not nil. uploads is where unfinished uploads are remembered; "" is nowhere.
func (p *program) openStore(ctx context.Context, t target, uploads string, set *metrics.Set) (objstore.Store, error) {
	limits := p.flags.limits
	if t.transfers > 0 {
		limits.Transfers = t.transfers
	}
	store, err := open.Location(ctx, t.location, open.Options{Anonymous: p.flags.anonymous, Limits: limits, Uploads: uploads})
	if err != nil {
		return nil, err
	}
	log := p.logger()
	policy := objstore.Policy{OnRetry: func(op objstore.Op, key string, attempt int, wait time.Duration, err error) {
		log.Info("store request tried again", "op", string(op), "key", key, "attempt", attempt, "wait", wait, "err", err)
		if set != nil {
			set.StoreRetry(string(op))
		}
	}}
	store = objstore.Retry(store, policy)
	if set == nil {
		return store, nil
	}
	return objstore.Observe(store, func(op objstore.Op, took time.Duration, bytes int64, err error) {
		set.StoreOperation(string(op), took, bytes, errorKind(err))
	}), nil
}

// errorKind names an error of a store for a metric's label; "" is none. A
// missing key and a condition that does not hold are answers, but counted:
// an operator wants to see them rise.
func errorKind(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, objstore.ErrPrecondition):
		return "precondition"
	case errors.Is(err, fs.ErrNotExist):
		return "not_found"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case errors.Is(err, objstore.ErrThrottled):
		return "throttled"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	}
	return "other"
}
