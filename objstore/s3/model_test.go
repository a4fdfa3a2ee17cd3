package s3_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestModel(t *testing.T) { model(t, newFaulty(t, servers.Versitygw(t), 0), 10_000) }

// model does ops operations on a bucket through a proxy that spoils every twelfth
// request.
func model(t *testing.T, f faulty, ops int) {
	seed := storetest.Seed(t)
	f.proxy.Decide(servers.Random(seed, 12, servers.Passing...))
	var retries atomic.Int64
	policy := objstore.Policy{First: time.Millisecond, Max: 20 * time.Millisecond,
		OnRetry: func(objstore.Op, string, int, time.Duration, error) { retries.Add(1) }}
	storetest.RunModel(t, objstore.Retry(f.through, policy), f.direct, seed, ops)
	t.Logf("%+v, tried again %d times", f.proxy.Traffic(""), retries.Load())
}
