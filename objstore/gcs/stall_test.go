package gcs_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
)

// stalling returns a store with short limits, and the proxy between it and a
// server that holds one object of 8 MiB, which is too much for the buffers on
// the way, under every key.
func stalling(t *testing.T) (*servers.Proxy, *gcs.Store) {
	t.Helper()
	body := make([]byte, 8*mib)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			w.Header().Set("X-Goog-Generation", "1")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			return
		}
		fmt.Fprint(w, `{"generation":"1","size":"1"}`)
	}))
	t.Cleanup(server.Close)
	proxy := servers.NewProxy(t, server.URL)
	s, err := gcs.New(t.Context(), gcs.Config{Bucket: "b", Endpoint: proxy.URL, Stall: 100 * time.Millisecond, Answer: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return proxy, s
}

// A server that stops anywhere is noticed, and asked again.
func TestStall(t *testing.T) {
	write := func(s objstore.Store) error {
		_, err := s.Put(t.Context(), "k", bytes.NewReader(make([]byte, 1000)), 1000, objstore.PutOptions{})
		return err
	}
	read := func(s objstore.Store) error {
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
		{"no answer", servers.Hang, write},
		{"takes no body", servers.Ignore, write},
		{"answer stops", servers.Stall, write},
		{"no answer to a Get", servers.Hang, read},
		{"body stops", servers.Stall, read},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proxy, s := stalling(t)
			proxy.Decide(func(*http.Request) servers.Fault { return tc.fault })
			if err := tc.do(s); err == nil || !strings.Contains(err.Error(), "stalled") || objstore.Lasting(err) {
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

// A reader that takes its time is not the server's fault.
func TestStallIsNotOurs(t *testing.T) {
	_, s := stalling(t)
	r, _, err := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pause := time.NewTimer(300 * time.Millisecond) // three times the limit
	<-pause.C
	if n, err := io.Copy(io.Discard, r); n != 8*mib || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
