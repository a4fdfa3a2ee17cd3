package s3_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestModel(t *testing.T) { model(t, servers.Versitygw(t), 10_000) }

// model does ops operations on server through a proxy that spoils every twelfth
// request.
func model(t *testing.T, server *servers.S3Server, ops int) {
	f := newFaulty(t, server, 0)
	seed := storetest.Seed(t)
	f.proxy.Decide(servers.Random(seed, 12, servers.Passing...))
	var retries atomic.Int64
	policy := objstore.Policy{First: time.Millisecond, Max: 20 * time.Millisecond,
		OnRetry: func(objstore.Op, string, int, time.Duration, error) { retries.Add(1) }}
	storetest.RunModel(t, objstore.Retry(f.through, policy), f.direct, seed, ops)
	t.Logf("%+v, tried again %d times", f.proxy.Traffic(""), retries.Load())
}
