package s3_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

const huge = 6<<30 + 123

// A bigCopy is a server that has one huge object and takes note of how it is copied.
type bigCopy struct {
	mu      sync.Mutex // guards what follows
	stretch []span
	meta    string
	cond    string
	parts   string // the body of the Complete
	aborted bool
	refuse  int // the status of every copy of a range, if any
}

type span struct{ from, to int64 } // to is the last byte

func (c *bigCopy) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.Method == http.MethodHead:
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", strconv.Itoa(huge))
	case r.Method == http.MethodDelete:
		c.aborted = r.URL.Query().Get("uploadId") == "u"
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Has("uploads"):
		c.meta = r.Header.Get("X-Amz-Meta-Who")
		fmt.Fprint(w, "<R><UploadId>u</UploadId></R>")
	case r.Method == http.MethodPost:
		c.cond, c.parts = r.Header.Get("If-None-Match"), string(body)
		fmt.Fprint(w, `<R><ETag>"whole"</ETag></R>`)
	case c.refuse != 0:
		w.WriteHeader(c.refuse)
	default:
		c.rangeOf(w, r)
	}
}

func (c *bigCopy) rangeOf(w http.ResponseWriter, r *http.Request) {
	var s span
	if _, err := fmt.Sscanf(r.Header.Get("X-Amz-Copy-Source-Range"), "bytes=%d-%d", &s.from, &s.to); err != nil ||
		r.Header.Get("X-Amz-Copy-Source-If-Match") != `"e"` || r.Header.Get("X-Amz-Copy-Source") != "b/src" || r.URL.Path != "/b/dst" {
		http.Error(w, fmt.Sprint(r.URL, r.Header), http.StatusBadRequest)
		return
	}
	c.stretch = append(c.stretch, s)
	fmt.Fprintf(w, `<R><ETag>"p%s"</ETag></R>`, r.URL.Query().Get("partNumber"))
}

func (c *bigCopy) copy(t *testing.T, s *s3.Store) (objstore.Info, error) {
	t.Helper()
	return s.Copy(t.Context(), "dst", "src", "e", objstore.PutOptions{Cond: objstore.Cond{Absent: true}, Meta: map[string]string{"who": "copy"}})
}

// An object that is too large for one request is copied by its ranges.
func TestCopyLarge(t *testing.T) {
	c := &bigCopy{}
	s := answering(t, c.serve)
	info, err := c.copy(t, s)
	if err != nil || info.Size != huge || info.Rev != "whole" || info.Key != "dst" {
		t.Fatalf("%+v, %v", info, err)
	}
	slices.SortFunc(c.stretch, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var at int64
	for _, p := range c.stretch {
		if n := p.to - p.from + 1; p.from != at || n > 1<<30 || n > s.Caps().MaxPart {
			t.Errorf("range %d-%d after byte %d", p.from, p.to, at)
		}
		at = p.to + 1
	}
	if at != huge || c.meta != "copy" || c.cond != "*" || c.aborted {
		t.Errorf("copied to %d of %d, metadata %q, If-None-Match %q, aborted %v", at, huge, c.meta, c.cond, c.aborted)
	}
	for i := range c.stretch { // every part under its own number
		if !strings.Contains(c.parts, fmt.Sprintf("<ETag>p%d</ETag>", i+1)) {
			t.Errorf("completed by %s", c.parts)
		}
	}
}

// A copy that cannot be finished leaves nothing, and a source that changed is
// what it is.
func TestCopyLargeFails(t *testing.T) {
	for status, want := range map[int]error{412: objstore.ErrPrecondition, 404: objstore.ErrPrecondition, 500: nil} {
		c := &bigCopy{refuse: status}
		_, err := c.copy(t, answering(t, c.serve))
		if err == nil || !errors.Is(err, want) && want != nil || want == nil && objstore.Lasting(err) {
			t.Errorf("%d: got %v, want %v", status, err, want)
		}
		if !c.aborted || c.parts != "" {
			t.Errorf("%d: aborted %v, completed by %q", status, c.aborted, c.parts)
		}
	}
}

// A success without content, as something on the way may say, is none: it must
// neither pass for an empty bucket nor end the program.
func TestAnswersWithoutContent(t *testing.T) {
	for _, body := range []string{"", "<html>hello</html>", "<R></R>", "<R><Upl"} {
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("ETag", `"e"`)
				w.Header().Set("Content-Length", "1")
				return
			}
			fmt.Fprint(w, body)
		})
		var list error
		for _, err := range s.List(t.Context(), "", "") {
			list = err
		}
		_, assemble := s.Assemble(t.Context(), "k", "", []objstore.Part{fresh("xx")}, nil, objstore.PutOptions{})
		_, copied := s.Copy(t.Context(), "k", "src", "e", objstore.PutOptions{})
		for what, err := range map[string]error{"List": list, "Assemble": assemble, "Copy": copied} {
			if err == nil || objstore.Lasting(err) || len(err.Error()) > 120 {
				t.Errorf("%s answered by %q: %v", what, body, err)
			}
		}
	}
}

// Amazon begins the answer to a long copy with 200 and may end it with an error.
func TestErrorsUnderSuccess(t *testing.T) {
	for code, want := range map[string]error{"PreconditionFailed": objstore.ErrPrecondition, "SlowDown": objstore.ErrThrottled,
		"AccessDenied": fs.ErrPermission, "InternalError": nil} {
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Query().Has("uploads"):
				fmt.Fprint(w, "<R><UploadId>u</UploadId></R>")
			case r.Method == http.MethodHead, r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "":
				w.Header().Set("ETag", `"e"`)
				w.Header().Set("Content-Length", "0")
			default:
				fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>said so</Message></Error>", code)
			}
		})
		_, assemble := s.Assemble(t.Context(), "k", "", []objstore.Part{fresh("xx")}, nil, objstore.PutOptions{})
		_, copied := s.Copy(t.Context(), "k", "src", "e", objstore.PutOptions{})
		for what, err := range map[string]error{"Assemble": assemble, "Copy": copied} {
			if err == nil || want != nil && !errors.Is(err, want) || want == nil && objstore.Lasting(err) {
				t.Errorf("%s answered by 200 %s: %v", what, code, err)
			}
		}
	}
}
