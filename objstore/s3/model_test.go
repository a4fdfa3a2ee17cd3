package s3_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestModel(t *testing.T) { model(t, newFaulty(t, servers.Versitygw(t), 0), 10_000) }

// R2 has one judge for all requests: its complaints, too, fail this test.
func TestModelR2(t *testing.T) { model(t, newFaultyR2(t), 10_000) }

// newFaultyR2 is newFaulty of a bucket that is R2's.
func newFaultyR2(t *testing.T) faulty {
	t.Helper()
	server := servers.R2(t)
	f := faulty{proxy: servers.NewProxy(t, server.Endpoint), direct: openR2(t, server, s3.Config{})}
	f.through = openR2(t, server, s3.Config{Bucket: f.direct.Where().Bucket, Endpoint: f.proxy.URL})
	return f
}

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
