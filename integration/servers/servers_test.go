package servers_test

import (
	"encoding/json"
	"fmt"
	"io"
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

// A gcsCaller speaks Google's protocol by hand, so that it can leave out what
// our own client never does.
type gcsCaller struct {
	*testing.T
	server *servers.GCSServer
	bucket string
}

func (c gcsCaller) fill(s string) string { return strings.ReplaceAll(s, "BUCKET", c.bucket) }

// call sends a request and returns its status and answer.
func (c gcsCaller) call(method, path, body string, header ...string) (int, string) {
	c.Helper()
	req, err := http.NewRequest(method, c.server.Endpoint+c.fill(path), strings.NewReader(c.fill(body)))
	if err != nil {
		c.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// put writes an object and returns its generation.
func (c gcsCaller) put(name, body string) string {
	c.Helper()
	status, answer := c.call("POST", "/upload/storage/v1/b/BUCKET/o?uploadType=media&name="+name, body)
	var o struct{ Generation string }
	if err := json.Unmarshal([]byte(answer), &o); status != 200 || err != nil || o.Generation == "" {
		c.Fatalf("put %s: %d %s", name, status, answer)
	}
	return o.Generation
}

// What fake-gcs-server lets pass and Google does not is refused, and what our
// client must never send is reported.
func TestGCS(t *testing.T) {
	server := servers.GCS(t)
	reported := 0
	server.Report(func(string, ...any) { reported++ })
	c := gcsCaller{t, server, server.NewBucket(t)}
	old := c.put("a", "old")
	now := c.put("a", "new")
	b := c.put("b", "b")
	if got := server.Uploaded(); got < 7 {
		t.Errorf("%d bytes uploaded, want 7 and the bucket's description", got)
	}
	const objects = "/storage/v1/b/BUCKET/o"
	compose := func(a, b string) string {
		source := func(name, g string) string {
			if g == "" {
				return fmt.Sprintf(`{"name":%q}`, name)
			}
			return fmt.Sprintf(`{"name":%q,"objectPreconditions":{"ifGenerationMatch":%q}}`, name, g)
		}
		return fmt.Sprintf(`{"sourceObjects":[%s,%s],"destination":{"contentType":"x/y"}}`, source("a", a), source("b", b))
	}
	for _, tc := range []struct {
		method, path, body string
		header             []string
		status, reports    int
	}{
		{"GET", objects + "/a?ifGenerationMatch=" + old, "", nil, 412, 0},
		{"GET", objects + "/a?ifGenerationMatch=" + now, "", nil, 200, 0},
		{"GET", "/BUCKET/a", "", []string{"x-goog-if-generation-match", old}, 412, 0},
		{"GET", "/BUCKET/a", "", []string{"x-goog-if-generation-match", now}, 200, 0},
		{"GET", "/BUCKET/none", "", nil, 404, 0},
		{"GET", "/no-bucket/a", "", nil, 404, 0},
		{"POST", "/upload/storage/v1/b/no-bucket/o?uploadType=media&name=a", "x", nil, 404, 0},
		{"POST", objects + "/c/compose?ifGenerationMatch=0", compose(old, b), nil, 412, 0},
		{"POST", objects + "/a/compose?ifGenerationMatch=" + old, compose(now, b), nil, 412, 0},
		{"POST", objects + "/c/compose?ifGenerationMatch=0", compose(now, ""), nil, 200, 1},
		{"POST", objects + "/d/compose", compose(now, b), nil, 200, 1},
		{"POST", objects + "/a/rewriteTo/b/BUCKET/o/e?ifSourceGenerationMatch=" + old, "{}", nil, 412, 0},
		{"POST", objects + "/a/rewriteTo/b/BUCKET/o/b?ifGenerationMatch=0&ifSourceGenerationMatch=" + now, "{}", nil, 412, 0},
		{"POST", objects + "/a/rewriteTo/b/BUCKET/o/e?ifSourceGenerationMatch=" + now, "{}", nil, 200, 0},
		{"POST", objects + "/a/rewriteTo/b/BUCKET/o/e", "{}", nil, 200, 1},
		{"DELETE", objects + "/a?ifGenerationMatch=" + old, "", nil, 412, 0},
		{"DELETE", objects + "/a?ifGenerationMatch=" + now, "", nil, 200, 0},
		{"DELETE", objects + "/b", "", nil, 200, 1},
		{"DELETE", "/storage/v1/b/BUCKET", "", nil, 409, 0},
		{"POST", "/storage/v1/b?project=p", `{"name":"BUCKET"}`, nil, 409, 0},
	} {
		reported = 0
		status, answer := c.call(tc.method, tc.path, tc.body, tc.header...)
		if status != tc.status || reported != tc.reports {
			t.Errorf("%s %s: %d with %d reports, want %d with %d\n%s", tc.method, tc.path, status, reported, tc.status, tc.reports, answer)
		}
	}
	if _, got := c.call("GET", "/BUCKET/c", ""); got != "newb" {
		t.Errorf("composed %q", got)
	}
	if _, got := c.call("GET", "/no-bucket/c", ""); !strings.Contains(got, "<Code>NoSuchBucket</Code>") {
		t.Errorf("missing bucket: %s", got)
	}
	if _, got := c.call("GET", "/storage/v1/b/no-bucket/o/c", ""); !strings.Contains(got, `"The specified bucket does not exist."`) {
		t.Errorf("missing bucket: %s", got)
	}
}
