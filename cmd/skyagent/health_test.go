package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestHealth asks a server that is well only when it is asked for the third time.
func TestHealth(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "not in step yet", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"health", server.URL}, nil, &stderr, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "503") || !strings.Contains(stderr.String(), "not in step yet") {
		t.Errorf("exit %d while it is not well: %s", code, &stderr)
	}
	stderr.Reset()
	if code := run(t.Context(), []string{"health", "--wait", "1m", server.URL}, nil, &stderr, &stderr); code != exitDone || stderr.Len() > 0 {
		t.Errorf("exit %d, want 0 once it is well: %s", code, &stderr)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}
