package blocks_test

import (
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// gateway returns a bucket of a real server, and what stands before it.
func gateway(t testing.TB) (objstore.Store, *servers.Proxy) {
	t.Helper()
	server := servers.Versitygw(t)
	proxy := servers.NewProxy(t, server.Endpoint)
	return bucket(t, server, proxy.URL), proxy
}

func bucket(t testing.TB, server *servers.S3Server, endpoint string) objstore.Store {
	t.Helper()
	s, err := s3.New(t.Context(), s3.Config{
		Bucket: server.NewBucket(t), Endpoint: endpoint, Stall: time.Second, Answer: time.Second,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	return objstore.Retry(s, objstore.Policy{Attempts: 3, First: time.Millisecond, Max: 10 * time.Millisecond})
}

func TestGateway(t *testing.T) {
	if testing.Short() {
		t.Skip("needs versitygw")
	}
	s, proxy := gateway(t)
	b := content(1, 40<<20)
	o, little := proven(t, put(t, s, "a", b), b), proven(t, put(t, s, "dir/b", b[:5000]), b[:5000])
	c := open(t, blocks.Options{Store: s, Deadline: 10 * time.Second})
	proxy.Decide(servers.Random(7, 4, servers.InternalError, servers.BreakAnswer, servers.Truncate))
	wantAll(t, reader(t, c, o), b, grain)
	wantAll(t, reader(t, c, little), b[:5000], 1000)
	wantFile(t, c, o, b)

	proxy.Decide(nil)
	put(t, s, "a", b[1:])
	c2 := open(t, blocks.Options{Store: s})
	if _, err := reader(t, c2, o).ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, blocks.ErrGone) {
		t.Errorf("ReadAt of a revision that was replaced = %v", err)
	}
}

// A server that takes requests and never answers costs a read its deadline.
func TestGatewaySilent(t *testing.T) {
	if testing.Short() {
		t.Skip("needs versitygw")
	}
	s, proxy := gateway(t)
	b := content(1, 4<<20)
	o, little := put(t, s, "a", b), put(t, s, "b", b[:100])
	c := open(t, blocks.Options{Store: s, Deadline: 50 * time.Millisecond})
	proxy.Decide(func(*http.Request) servers.Fault { return servers.Hang })
	for _, o := range []blocks.Object{o, little} {
		if _, err := reader(t, c, o).ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadAt = %v", err)
		}
	}
	proxy.Decide(nil)
	eventually(t, "reads work again", func() bool {
		_, err := reader(t, c, o).ReadAt(t.Context(), make([]byte, 10), 0)
		return err == nil
	})
}
