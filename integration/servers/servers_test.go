package servers_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

func TestVersitygw(t *testing.T) {
	s := servers.Versitygw(t)
	bucket := s.NewBucket(t)
	if _, err := os.Stat(filepath.Join(s.Dir, bucket)); err != nil {
		t.Fatalf("bucket: %v", err)
	}
	endpoint := s.Endpoint
	s.Stop()
	if _, err := http.Get(endpoint); err == nil {
		t.Fatal("it serves after Stop")
	}
	s.Start(t)
	if other := s.NewBucket(t); other == bucket || s.Endpoint != endpoint {
		t.Fatalf("after Start: bucket %s, endpoint %s", other, s.Endpoint)
	}
}

func TestNATS(t *testing.T) {
	s := servers.NATS(t, servers.NATSOptions{JetStream: true, Config: "max_payload: 65536\n"})
	addr := strings.TrimPrefix(s.URL, "nats://")
	s.Kill()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Fatal("it serves after Kill")
	}
	s.Start(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := os.Stat(filepath.Join(s.StoreDir, "jetstream")); err != nil {
		t.Errorf("JetStream's store: %v", err)
	}
}
