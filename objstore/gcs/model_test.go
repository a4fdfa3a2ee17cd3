package gcs_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// faulty is a bucket that is reached through a proxy, and past it.
type faulty struct {
	proxy   *servers.Proxy
	through *gcs.Store
	direct  *gcs.Store
}

// newFaulty returns a bucket of server's. stall is how long a request may hang; 0
// is the default.
func newFaulty(t *testing.T, server *servers.GCSServer, stall time.Duration) faulty {
	t.Helper()
	f := faulty{proxy: servers.NewProxy(t, server.Endpoint)}
	bucket := server.NewBucket(t)
	f.direct = open(t, server, gcs.Config{Bucket: bucket})
	behind := *server
	behind.Endpoint = f.proxy.URL
	f.through = open(t, &behind, gcs.Config{Bucket: bucket, Stall: stall, Answer: stall})
	return f
}

// TestModel does operations through a proxy that spoils every twelfth request.
func TestModel(t *testing.T) {
	f := newFaulty(t, servers.GCS(t), 0)
	seed := storetest.Seed(t)
	f.proxy.Decide(servers.Random(seed, 12, servers.Passing...))
	var retries atomic.Int64
	policy := objstore.Policy{First: time.Millisecond, Max: 20 * time.Millisecond,
		OnRetry: func(objstore.Op, string, int, time.Duration, error) { retries.Add(1) }}
	storetest.RunModel(t, objstore.Retry(f.through, policy), f.direct, seed, 10_000)
	t.Logf("%+v, tried again %d times", f.proxy.Traffic(""), retries.Load())
}
