package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// stalling returns a store with short limits, and the proxy between it and a
// server that holds one object of 8 MiB, which is too much for the buffers on
// the way, under every key.
func stalling(t *testing.T) (*servers.Proxy, *s3.Store) {
	t.Helper()
	body := make([]byte, 8<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"e"`)
		if r.Method == http.MethodGet {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
	}))
	t.Cleanup(server.Close)
	proxy := servers.NewProxy(t, server.URL)
	return proxy, open(t, &servers.S3Server{Endpoint: proxy.URL, AccessKey: "a", SecretKey: "s"},
		s3.Config{Bucket: "b", Stall: 100 * time.Millisecond, Answer: 100 * time.Millisecond})
}

// A server that stops anywhere is noticed, and asked again.
func TestStall(t *testing.T) {
	put := func(s objstore.Store) error {
		_, err := s.Put(t.Context(), "k", bytes.NewReader(make([]byte, 32<<20)), 32<<20, objstore.PutOptions{})
		return err
	}
	get := func(s objstore.Store) error {
		r, _, err := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	}
	for _, tc := range []struct {
		name  string
		fault servers.Fault
		do    func(objstore.Store) error
	}{
		{"no answer", servers.Hang, put},
		{"takes no body", servers.Ignore, put},
		{"no answer to a Get", servers.Hang, get},
		{"body stops", servers.Stall, get},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proxy, s := stalling(t)
			proxy.Decide(func(*http.Request) servers.Fault { return tc.fault })
			err := tc.do(s)
			if err == nil || !strings.Contains(err.Error(), "stalled") || objstore.Lasting(err) {
				t.Errorf("got %v", err)
			}
			once, came := servers.Once(0, tc.fault)
			proxy.Decide(once)
			if err := tc.do(objstore.Retry(s, objstore.Policy{First: time.Nanosecond})); err != nil || !came() {
				t.Errorf("tried again: %v", err)
			}
		})
	}
}

// A reader that takes its time is not the server's fault, nor is a slow disk.
func TestStallIsNotOurs(t *testing.T) {
	_, s := stalling(t)
	r, _, err := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pause := time.NewTimer(300 * time.Millisecond) // three times the limit
	<-pause.C
	if n, err := io.Copy(io.Discard, r); n != 8<<20 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if _, err := s.Put(t.Context(), "k", &slowDisk{Reader: bytes.NewReader(make([]byte, 1<<20))}, 1<<20, objstore.PutOptions{}); err != nil {
		t.Errorf("from a slow disk: %v", err)
	}
}

// A slowDisk is a body whose first Read takes three times the limit.
type slowDisk struct {
	*bytes.Reader
	asked bool
}

func (d *slowDisk) Read(p []byte) (int, error) {
	if !d.asked {
		d.asked = true
		pause := time.NewTimer(300 * time.Millisecond)
		<-pause.C
	}
	return d.Reader.Read(p)
}
