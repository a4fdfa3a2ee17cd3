package s3_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// nowhere returns an address that nobody listens on.
func nowhere(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// A failing network fails every request.
type failing struct{ err error }

func (f failing) Do(r *http.Request) (*http.Response, error) {
	return nil, &url.Error{Op: r.Method, URL: r.URL.String(), Err: f.err}
}

// What keeps a user from the server is one line that names the bucket, and said
// at once.
func TestNetworkErrors(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, tc := range map[string]struct {
		endpoint string
		client   aws.HTTPClient // instead of the network
		want     error
		words    string
		attempts int
	}{
		"nobody listens":    {"http://" + nowhere(t), nil, objstore.ErrUnreachable, "refused", 3},
		"no such host":      {"http://h", failing{&net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}}, objstore.ErrUnreachable, "lookup h: no such host", 3},
		"no network":        {"http://h", failing{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}}, objstore.ErrUnreachable, "network is unreachable", 3},
		"lost connection":   {"http://h", failing{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}}, syscall.ECONNRESET, "reset", 8},
		"unknown authority": {secure.URL, nil, objstore.ErrTLS, "certificate", 1},
		"no TLS":            {strings.Replace(plain.URL, "http:", "https:", 1), nil, objstore.ErrTLS, "HTTP response to HTTPS client", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CA_BUNDLE", "")
			plain, err := s3.New(t.Context(), s3.With(s3.Config{Bucket: "models", Endpoint: tc.endpoint,
				Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")}, tc.client))
			must(t, err)
			attempts := 1
			s := objstore.Retry(plain, objstore.Policy{First: time.Millisecond, OnRetry: func(objstore.Op, string, int, time.Duration, error) { attempts++ }})
			_, err = s.Put(t.Context(), "k", strings.NewReader("v"), 1, objstore.PutOptions{})
			if !errors.Is(err, tc.want) || attempts != tc.attempts {
				t.Errorf("got %v after %d attempts", err, attempts)
			}
			if line := err.Error(); !strings.HasPrefix(line, "put s3://models/k: ") || !strings.Contains(line, tc.words) || strings.Contains(line, "\n") || len(line) > 160 {
				t.Errorf("error is %q", line)
			}
		})
	}
}

// AWS_CA_BUNDLE makes a private server trusted, by the names that it has; R2's
// client reads it too.
func TestPrivateAuthority(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"e"`) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644))
	t.Setenv("AWS_CA_BUNDLE", bundle)
	for _, scheme := range []string{"s3", "r2"} {
		c := s3.Config{Scheme: scheme, Bucket: "b", Endpoint: server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")}
		s, err := s3.New(t.Context(), c)
		must(t, err)
		put(t, s, "k", "v")
		c.Endpoint = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
		s, err = s3.New(t.Context(), c)
		must(t, err)
		if _, err = s.Head(t.Context(), "k"); !errors.Is(err, objstore.ErrTLS) || !strings.Contains(err.Error(), "localhost") {
			t.Errorf("%s: a name that the certificate has not: %v", scheme, err)
		}
	}
}

// A server of TLS answers to plain HTTP, but not in S3's words.
func TestPlainToTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s, err := s3.New(t.Context(), s3.Config{Bucket: "b", Endpoint: strings.Replace(server.URL, "https:", "http:", 1),
		Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")})
	must(t, err)
	_, head := s.Head(t.Context(), "k")
	_, put := s.Put(t.Context(), "k", strings.NewReader("v"), 1, objstore.PutOptions{})
	for op, err := range map[string]error{"head": head, "put": put} {
		if !errors.Is(err, objstore.ErrTLS) || err.Error() != op+" s3://b/k: no secure connection: the server refuses plain HTTP" {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// A clock that is off is named, with how far, whatever the answer to a HEAD
// leaves out.
func TestClock(t *testing.T) {
	for off, want := range map[time.Duration]string{
		-37 * time.Minute: "this machine's clock is 37 minutes ahead of the server's",
		3 * time.Hour:     "this machine's clock is 180 minutes behind the server's",
	} {
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
		})
		_, head := s.Head(t.Context(), "k")
		_, put := s.Put(t.Context(), "k", strings.NewReader("v"), 1, objstore.PutOptions{})
		for op, err := range map[string]error{"head": head, "put": put} {
			if err == nil || err.Error() != fmt.Sprintf("%s s3://b/k: %s", op, want) || !objstore.Lasting(err) || errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
}

// versitygw names its region in the words of the refusal alone.
func TestWrongRegion(t *testing.T) {
	server := servers.Versitygw(t)
	bucket := server.NewBucket(t)
	s := open(t, server, s3.Config{Bucket: bucket, Region: "eu-west-3"})
	_, head := s.BucketExists(t.Context())
	_, _, get := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
	for op, err := range map[string]error{"BucketExists": head, "Get": get} {
		var region *s3.RegionError
		if !errors.As(err, &region) || region.Region != "us-east-1" {
			t.Errorf("%s: %v", op, err)
		}
	}
}
