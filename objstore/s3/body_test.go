package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// An answer that comes before the body was taken leaves nobody who reads the
// body while the next attempt does.
func TestEarlyAnswerLeavesTheBodyAlone(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var asked atomic.Int64
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the second attempt sent %d bytes, %v", len(got), err)
		}
		w.Header().Set("ETag", `"e"`)
	})
	retried := objstore.Retry(s, objstore.Policy{First: time.Nanosecond})
	for range 20 {
		if _, err := retried.Put(t.Context(), "k", bytes.NewReader(want), int64(len(want)), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// The time that a server asks for reaches whoever retries.
func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		status int
		header string
		want   time.Duration
	}{{503, "7", 7 * time.Second}, {429, "0", 0}, {500, "7", -1}, {503, "", -1}, {503, "soon", -1}} {
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", tc.header)
			w.WriteHeader(tc.status)
		})
		_, err := s.Put(t.Context(), "k", strings.NewReader("x"), 1, objstore.PutOptions{})
		var throttled *objstore.Throttled
		if errors.As(err, &throttled) != (tc.want >= 0) || tc.want >= 0 && (throttled.After != tc.want || !errors.Is(err, objstore.ErrThrottled)) {
			t.Errorf("%d with Retry-After %q: %v", tc.status, tc.header, err)
		}
	}
}
