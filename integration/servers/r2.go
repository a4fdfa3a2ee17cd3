package servers

import (
	"net/http/httptest"
	"testing"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// An R2Server is a server in this process that keeps Cloudflare R2's rules.
type R2Server struct {
	Endpoint  string // http://127.0.0.1:PORT
	AccessKey string
	SecretKey string

	backend *memory
	server  *httptest.Server
	judge   *judge
}

// R2 starts a server of the test's own, which ends with it. What a client may
// not ask of R2 is refused as R2 refuses it and fails the test.
//
// Beneath is gofakes3, an S3 server in memory that checks signatures. Where it
// differs from R2 the judge before it and the memory behind it make up for it,
// but for one thing: the ETag of a multipart object is a hash of its bytes, not
// random.
func R2(t testing.TB) *R2Server {
	t.Helper()
	s := &R2Server{AccessKey: "skyagent-r2-test", SecretKey: unusualSecret, backend: &memory{Backend: s3mem.New()}}
	fake := gofakes3.New(s.backend, gofakes3.WithoutVersioning(), gofakes3.WithMetadataSizeLimit(8192),
		gofakes3.WithV4Auth(map[string]string{s.AccessKey: s.SecretKey}))
	s.judge = newJudge(t, s.backend, fake.Server())
	s.server = httptest.NewServer(s.judge)
	s.Endpoint = s.server.URL
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server; it does not start again.
func (s *R2Server) Stop() { s.server.Close() }

// OnePerSecond makes the server answer 429 to a write of a key that was written
// less than a second before, as R2 does.
func (s *R2Server) OnePerSecond() { s.judge.onePerSecond.Store(true) }

// NewBucket makes a bucket that nobody uses and returns its name.
func (s *R2Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := bucketName()
	if err := s.backend.CreateBucket(t.Context(), name); err != nil {
		t.Fatalf("create bucket %s: %v", name, err)
	}
	return name
}

// Environ is the environment of a user whose r2:// URLs lead to the server.
func (s *R2Server) Environ() []string {
	return []string{"R2_ENDPOINT_URL=" + s.Endpoint, "R2_ACCESS_KEY_ID=" + s.AccessKey, "R2_SECRET_ACCESS_KEY=" + s.SecretKey}
}

// Setenv gives the test itself that environment. It cannot be used in parallel
// tests.
func (s *R2Server) Setenv(t testing.TB) { setenv(t, s.Environ()) }
