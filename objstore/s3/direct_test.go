package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// A listener counts connections.
type listener struct {
	*httptest.Server
	opened atomic.Int64
}

func listen(t *testing.T, start func(*httptest.Server), serve http.HandlerFunc) *listener {
	l := &listener{Server: httptest.NewUnstartedServer(serve)}
	l.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			l.opened.Add(1)
		}
	}
	l.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(l.Server)
	t.Cleanup(l.Close)
	return l
}

func (l *listener) open(t *testing.T) *s3.Store {
	t.Helper()
	s, err := s3.New(t.Context(), s3.Config{Bucket: "b", Endpoint: l.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func object(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"e"`)
	switch {
	case strings.HasSuffix(r.URL.Path, "/missing"):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code><Message>", strings.Repeat("m", 5000), "</Message></Error>")
	case strings.HasSuffix(r.URL.Path, "/large"):
		w.Header().Set("Content-Length", "10000000")
		io.WriteString(w, strings.Repeat("x", 10_000_000))
	default:
		io.WriteString(w, "content")
	}
}

// Reads share one connection, whatever they are answered.
func TestOneConnection(t *testing.T) {
	l := listen(t, (*httptest.Server).Start, object)
	s := l.open(t)
	for range 5 {
		if got := get(t, s, "k"); got != "content" {
			t.Fatalf("got %q", got)
		}
		if _, err := s.Head(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Get(t.Context(), "missing", 0, -1, objstore.Cond{}); err == nil {
			t.Fatal("a missing key was there")
		}
	}
	if n := l.opened.Load(); n != 1 {
		t.Errorf("%d connections were opened, want 1", n)
	}
}

// What the server closed while it was idle is replaced, without an error.
func TestIdleConnectionIsGone(t *testing.T) {
	l := listen(t, (*httptest.Server).Start, object)
	s := l.open(t)
	for range 3 {
		get(t, s, "k")
		l.CloseClientConnections()
	}
	if n := l.opened.Load(); n != 3 {
		t.Errorf("%d connections were opened, want 3", n)
	}
}

// A body that is left or cancelled halfway does no harm to those after it.
func TestLeftHalfway(t *testing.T) {
	l := listen(t, (*httptest.Server).Start, object)
	s := l.open(t)
	half := make([]byte, 5_000_000)
	r, _, err := s.Get(t.Context(), "large", 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(r, half)
	r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if r, _, err = s.Get(ctx, "large", 0, -1, objstore.Cond{}); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(r, half)
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled body ends with %v", err)
	}
	r.Close()
	if got := get(t, s, "k"); got != "content" {
		t.Errorf("then got %q", got)
	}
}

// What a server says unasked, on a connection that is idle, is no answer.
func TestUnaskedWords(t *testing.T) {
	for name, words := range map[string]string{
		"408":            "HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"another answer": "HTTP/1.1 200 OK\r\nEtag: \"evil\"\r\nContent-Length: 4\r\n\r\nEVIL",
	} {
		t.Run(name, func(t *testing.T) {
			speak, said := make(chan struct{}), make(chan struct{})
			l := listen(t, (*httptest.Server).Start, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodHead {
					object(w, r)
					return
				}
				conn, out, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprint(out, "HTTP/1.1 200 OK\r\nEtag: \"e\"\r\nContent-Length: 7\r\n\r\n")
				out.Flush()
				<-speak
				fmt.Fprint(out, words)
				out.Flush()
				close(said)
			})
			s := l.open(t)
			if _, err := s.Head(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			close(speak) // the client has put the connection aside
			<-said
			if got := get(t, s, "other"); got != "content" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A server that ignores the range is not believed.
func TestRangeIgnored(t *testing.T) {
	l := listen(t, (*httptest.Server).Start, object)
	s := l.open(t)
	for _, tc := range []struct{ off, n int64 }{{2, 2}, {2, -1}, {0, 3}} {
		if _, _, err := s.Get(t.Context(), "k", tc.off, tc.n, objstore.Cond{}); err == nil || objstore.Lasting(err) {
			t.Errorf("Get(%d, %d): %v, want an error that may pass", tc.off, tc.n, err)
		}
	}
	r, _, err := s.Get(t.Context(), "k", 0, 100, objstore.Cond{})
	if err != nil {
		t.Fatalf("a range that is all of it: %v", err)
	}
	r.Close()
}

// With TLS the server's certificate is checked, by its name and authority.
func TestDirectTLS(t *testing.T) {
	l := listen(t, (*httptest.Server).StartTLS, object)
	_, _, err := l.open(t).Get(t.Context(), "k", 0, -1, objstore.Cond{})
	if !errors.Is(err, objstore.ErrTLS) {
		t.Errorf("an unknown authority: %v", err)
	}
}

// Where a proxy is configured, requests go through it.
func TestThroughProxy(t *testing.T) {
	var seen atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.URL.Host != "store.test" {
			t.Errorf("the proxy is asked for %s", r.URL)
		}
		object(w, r)
	}))
	defer proxy.Close()
	via := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	})
	s, err := s3.New(t.Context(), s3.With(s3.Config{Bucket: "b", Endpoint: "http://store.test",
		Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")}, via))
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "k"); got != "content" || seen.Load() != 1 {
		t.Errorf("got %q, the proxy saw %d requests", got, seen.Load())
	}
}
