package servers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A GCSServer is a fake-gcs-server, which keeps objects in memory, behind a
// proxy that makes it as strict as Google: see gcsProxy.
type GCSServer struct {
	Endpoint string // http://127.0.0.1:PORT, of the proxy

	proxy *gcsProxy
	*process
}

// GCS starts a server of the test's own, which ends with it. A request that
// removes, composes or copies objects without saying of which generation fails
// the test.
func GCS(t testing.TB) *GCSServer {
	t.Helper()
	path := binary(t, fakeGCS)
	s := &GCSServer{proxy: newGCSProxy(t.Errorf)}
	front := httptest.NewUnstartedServer(s.proxy)
	host := front.Listener.Addr().String()
	s.proxy.host = host
	s.process = launch(t, func(addr string) *process {
		s.proxy.to = addr
		return &process{
			path: path, addr: addr, ready: answersHTTP, env: environ(),
			args: []string{"-scheme", "http", "-host", "127.0.0.1", "-port", port(addr), "-backend", "memory",
				"-log-level", "error", "-public-host", host, "-external-url", "http://" + host},
		}
	})
	front.Start()
	t.Cleanup(front.Close)
	s.Endpoint = front.URL
	return s
}

// Uploaded returns how many bytes of request bodies came so far.
func (s *GCSServer) Uploaded() int64 { return s.proxy.uploaded.Load() }

// Report has breaches of the rules told to f instead of failing the test. It
// must come before the first request.
func (s *GCSServer) Report(f func(format string, args ...any)) { s.proxy.report = f }

// NewBucket makes a bucket that nobody uses and returns its name.
func (s *GCSServer) NewBucket(t testing.TB) string {
	t.Helper()
	name := bucketName()
	resp, err := http.Post(s.Endpoint+"/storage/v1/b?project=test", "application/json", strings.NewReader(fmt.Sprintf(`{"name":%q}`, name)))
	if err != nil {
		t.Fatalf("create bucket %s: %v", name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("create bucket %s: server says %s", name, resp.Status)
	}
	return name
}

// Environ is the environment of a user whose shell points at the server.
func (s *GCSServer) Environ() []string { return []string{"STORAGE_EMULATOR_HOST=" + s.Endpoint} }
