package s3_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// R2 copies the ranges of a huge object unconditionally: one that was replaced
// meanwhile must not become a copy of both.
func TestR2CopyLarge(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		var copied, completed, aborted atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodHead:
				etag := `"e"`
				if replaced && copied.Load() > 0 {
					etag = `"other"`
				}
				if match := r.Header.Get("If-Match"); match != "" && match != etag {
					w.WriteHeader(http.StatusPreconditionFailed)
					return
				}
				w.Header().Set("ETag", etag)
				w.Header().Set("Content-Length", strconv.Itoa(huge))
			case r.Method == http.MethodDelete:
				aborted.Add(1)
			case r.URL.Query().Has("uploads"):
				fmt.Fprint(w, "<R><UploadId>u</UploadId></R>")
			case r.Method == http.MethodGet:
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, "<Error><Code>NoSuchUpload</Code></Error>")
			case r.Method == http.MethodPost:
				completed.Add(1)
				fmt.Fprint(w, `<R><ETag>"whole"</ETag></R>`)
			default:
				if r.Header.Get("X-Amz-Copy-Source-If-Match") != "" {
					t.Error("a part has a condition on its source")
				}
				copied.Add(1)
				fmt.Fprint(w, `<R><ETag>"p"</ETag></R>`)
			}
		}))
		t.Cleanup(server.Close)
		s, err := s3.New(t.Context(), s3.Config{Scheme: "r2", Bucket: "b", Endpoint: server.URL,
			Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")})
		must(t, err)
		_, err = s.Copy(t.Context(), "dst", "src", "e", objstore.PutOptions{})
		if replaced && (!errors.Is(err, objstore.ErrPrecondition) || completed.Load() != 0 || aborted.Load() != 1) || !replaced && err != nil {
			t.Errorf("replaced %v: %v, completed %d, aborted %d", replaced, err, completed.Load(), aborted.Load())
		}
	}
}
