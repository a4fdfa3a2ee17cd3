package servers

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3"
)

// A judge stands before an S3 server and holds its clients to R2's rules.
type judge struct {
	t            testing.TB
	backend      gofakes3.Backend
	next         http.Handler
	onePerSecond atomic.Bool

	mu      sync.Mutex               // guards what follows
	uploads map[string]map[int]int64 // upload id → part number → bytes
	written map[string]time.Time     // path → last write
}

func newJudge(t testing.TB, backend gofakes3.Backend, next http.Handler) *judge {
	return &judge{t: t, backend: backend, next: next,
		uploads: make(map[string]map[int]int64), written: make(map[string]time.Time)}
}

// A ruling is why a request is refused.
type ruling struct {
	status        int
	code, message string
}

func (r ruling) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(r.status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", r.code, r.message)
}

// A rule is something that R2 does not take from any client.
type rule struct {
	broken func(*http.Request) bool
	ruling
}

const minPart = 5 << 20

// rules are from Cloudflare's tables of what its S3 API implements.
var rules = []rule{
	{func(r *http.Request) bool { return isPart(r) && header(r, "X-Amz-Copy-Source-If-") },
		ruling{http.StatusNotImplemented, "NotImplemented", "UploadPartCopy has no conditions on its source"}},
	{func(r *http.Request) bool { return isCopy(r) && (header(r, "If-Match") || header(r, "If-None-Match")) },
		ruling{http.StatusNotImplemented, "NotImplemented", "CopyObject has no such conditions on its destination"}},
	{func(r *http.Request) bool { return r.Method == http.MethodDelete && header(r, "If-Match") },
		ruling{http.StatusNotImplemented, "NotImplemented", "DeleteObject has no conditions"}},
	{func(r *http.Request) bool { return checksums(r) > 1 },
		ruling{http.StatusBadRequest, "InvalidRequest", "You can only specify one non-default checksum at a time."}},
	{func(r *http.Request) bool { return header(r, "X-Amz-Tagging") || r.URL.Query().Has("tagging") },
		ruling{http.StatusNotImplemented, "NotImplemented", "tagging is not implemented"}},
	{func(r *http.Request) bool { return header(r, "X-Amz-Server-Side-Encryption") },
		ruling{http.StatusNotImplemented, "NotImplemented", "x-amz-server-side-encryption is not implemented"}},
	{func(r *http.Request) bool { return header(r, "X-Amz-Request-Payer") },
		ruling{http.StatusNotImplemented, "NotImplemented", "x-amz-request-payer is not implemented"}},
	{func(r *http.Request) bool {
		return header(r, "X-Amz-Trailer") || strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked")
	},
		ruling{http.StatusNotImplemented, "NotImplemented", "STREAMING-UNSIGNED-PAYLOAD-TRAILER not implemented"}},
	{func(r *http.Request) bool {
		return !slices.Contains([]string{"", "auto", "us-east-1"}, signingRegion(r))
	},
		ruling{http.StatusBadRequest, "InvalidRegionName", "The region name is not valid. Must be one of: auto, us-east-1"}},
	{func(r *http.Request) bool {
		return !slices.Contains([]string{"", "STANDARD", "STANDARD_IA"}, r.Header.Get("X-Amz-Storage-Class"))
	}, ruling{http.StatusBadRequest, "InvalidStorageClass", "The storage class you specified is not valid."}},
	{func(r *http.Request) bool { return r.Method == http.MethodPut && r.ContentLength < 0 },
		ruling{http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header."}},
}

// ServeHTTP implements http.Handler.
func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, rule := range rules {
		if rule.broken(r) {
			j.condemn(w, r, rule.ruling)
			return
		}
	}
	switch {
	case j.tooSoon(r):
		ruling{http.StatusTooManyRequests, "TooManyRequests", "Reduce your concurrent request rate for the same object."}.write(w)
	case isPart(r):
		j.part(w, r)
	case isComplete(r):
		j.complete(w, r)
	case header(r, "If-Match") && r.Method == http.MethodPut:
		j.pass(w, r)
	default:
		j.next.ServeHTTP(w, r)
	}
}

// condemn refuses a request that no client of R2's may send.
func (j *judge) condemn(w http.ResponseWriter, r *http.Request, why ruling) {
	j.t.Errorf("R2 refuses %s %s: %s: %s", r.Method, r.URL.RequestURI(), why.code, why.message)
	io.Copy(io.Discard, r.Body)
	why.write(w)
}

// tooSoon reports whether a key was written less than a second ago.
func (j *judge) tooSoon(r *http.Request) bool {
	if !j.onePerSecond.Load() || r.Method != http.MethodPut && !isComplete(r) || isPart(r) {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if now.Sub(j.written[r.URL.Path]) < time.Second {
		return true
	}
	j.written[r.URL.Path] = now
	return false
}

// pass lets a write through, and turns the 404 that gofakes3 gives, as
// Amazon's does, to If-Match on a missing key into R2's 412.
func (j *judge) pass(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	j.next.ServeHTTP(answer, r)
	if header(r, "If-Match") && answer.Code == http.StatusNotFound && strings.Contains(answer.Body.String(), "<Code>NoSuchKey<") {
		ruling{http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold."}.write(w)
		return
	}
	relay(w, answer)
}

// relay gives an answer that was held back to the client.
func relay(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// part lets a part through and remembers its size.
func (j *judge) part(w http.ResponseWriter, r *http.Request) {
	size, err := j.partSize(r)
	if err != nil {
		j.condemn(w, r, ruling{http.StatusBadRequest, "InvalidArgument", err.Error()})
		return
	}
	answer := httptest.NewRecorder()
	j.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		j.remember(r.URL.Query(), size)
	}
	relay(w, answer)
}

func (j *judge) remember(q url.Values, size int64) {
	number, _ := strconv.Atoi(q.Get("partNumber"))
	j.mu.Lock()
	defer j.mu.Unlock()
	id := q.Get("uploadId")
	if j.uploads[id] == nil {
		j.uploads[id] = make(map[int]int64)
	}
	j.uploads[id][number] = size
}

// partSize returns the size of a part that is sent, or copied: a range, or a
// whole object.
func (j *judge) partSize(r *http.Request) (int64, error) {
	from := r.Header.Get("X-Amz-Copy-Source")
	if from == "" {
		return r.ContentLength, nil
	}
	if span := r.Header.Get("X-Amz-Copy-Source-Range"); span != "" {
		var first, last int64
		if _, err := fmt.Sscanf(span, "bytes=%d-%d", &first, &last); err != nil {
			return 0, fmt.Errorf("copy range %q: %w", span, err)
		}
		return last - first + 1, nil
	}
	from, err := url.PathUnescape(strings.TrimPrefix(from, "/"))
	bucket, key, ok := strings.Cut(from, "/")
	if err != nil || !ok {
		return 0, fmt.Errorf("copy source %q: %w", from, errors.Join(err, errors.ErrUnsupported))
	}
	object, err := j.backend.HeadObject(r.Context(), bucket, key)
	if err != nil {
		return 0, err
	}
	object.Contents.Close()
	return object.Size, nil
}

// complete checks the sizes of the parts that a client names, copied ones too.
func (j *judge) complete(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // it was cut on its way, which is not the client's fault
	}
	var named struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.Unmarshal(body, &named); err != nil {
		j.condemn(w, r, ruling{http.StatusBadRequest, "MalformedXML", err.Error()})
		return
	}
	var sizes []int64
	j.mu.Lock()
	for _, p := range named.Part {
		sizes = append(sizes, j.uploads[r.URL.Query().Get("uploadId")][p.PartNumber])
	}
	j.mu.Unlock()
	if why, ok := uneven(sizes); ok {
		j.condemn(w, r, why)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	j.pass(w, r)
}

// uneven returns R2's error for parts of these sizes, if it has one.
func uneven(sizes []int64) (ruling, bool) {
	for i, size := range sizes {
		switch trailing := i == len(sizes)-1; {
		case size < minPart && !trailing:
			return ruling{http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size. (10011)"}, true
		case size > sizes[0], size != sizes[0] && !trailing:
			return ruling{http.StatusBadRequest, "InvalidPart", "All non-trailing parts must have the same length. (10048)"}, true
		}
	}
	return ruling{}, false
}

func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

func isCopy(r *http.Request) bool {
	return r.Method == http.MethodPut && !isPart(r) && header(r, "X-Amz-Copy-Source")
}

func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// header reports whether a request has a header whose name begins with prefix.
func header(r *http.Request, prefix string) bool {
	for name := range r.Header {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// checksums counts the checksums of a body that a request carries.
func checksums(r *http.Request) int {
	n := 0
	for name := range r.Header {
		if name == "Content-Md5" || strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Algorithm" && name != "X-Amz-Checksum-Mode" && name != "X-Amz-Checksum-Type" {
			n++
		}
	}
	return n
}

// signingRegion returns the region in the scope of a request's signature.
func signingRegion(r *http.Request) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(scope, "/")
	if len(parts) < 5 {
		return ""
	}
	return parts[len(parts)-3]
}
