//go:build minio

package s3_test

import (
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestMinIO(t *testing.T) {
	server := servers.MinIO(t)
	storetest.Run(t, func(t *testing.T) objstore.Store {
		return objstore.Retry(open(t, server, s3.Config{}), objstore.Policy{First: 10 * time.Millisecond})
	})
}

func TestMinIOModel(t *testing.T) { model(t, servers.MinIO(t), 2_000) }
