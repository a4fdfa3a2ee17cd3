package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// answering returns a store whose server answers by h: for what a real server
// cannot be made to say.
func answering(t *testing.T, h http.HandlerFunc) *s3.Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return open(t, &servers.S3Server{Endpoint: server.URL, AccessKey: "a", SecretKey: "s"}, s3.Config{Bucket: "b"})
}

func TestAnswers(t *testing.T) {
	passing := errors.New("passing")
	for _, tc := range []struct {
		status int
		code   string
		header string // X-Amz-Bucket-Region
		want   error
	}{
		{404, "NoSuchKey", "", objstore.ErrPrecondition}, // Amazon's and MinIO's answer to If-Match
		{412, "PreconditionFailed", "", objstore.ErrPrecondition},
		{404, "NoSuchBucket", "", objstore.ErrNoBucket},
		{403, "AccessDenied", "", fs.ErrPermission},
		{403, "InvalidAccessKeyId", "", fs.ErrPermission},
		{403, "RequestTimeTooSkewed", "", fs.ErrInvalid},
		{400, "ExpiredToken", "", fs.ErrPermission},
		{400, "RequestTimeout", "", passing},
		{400, "EntityTooLarge", "", fs.ErrInvalid},
		{400, "AuthorizationHeaderMalformed", "eu-west-1", fs.ErrInvalid},
		{409, "ConditionalRequestConflict", "", passing},
		{409, "ExistingObjectIsDirectory", "", passing},
		{409, "BucketNotEmpty", "", objstore.ErrNotEmpty},
		{429, "TooManyRequests", "", objstore.ErrThrottled},
		{503, "SlowDown", "", objstore.ErrThrottled},
		{503, "ServiceUnavailable", "", passing},
		{500, "InternalError", "", passing},
		{501, "NotImplemented", "", errors.ErrUnsupported},
	} {
		var asked atomic.Int64
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if tc.header != "" {
				w.Header().Set("X-Amz-Bucket-Region", tc.header)
			}
			w.WriteHeader(tc.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said so</Message></Error>", tc.code)
		})
		_, err := s.Put(t.Context(), "key", strings.NewReader("x"), 1, objstore.PutOptions{Cond: objstore.Cond{If: "r"}})
		if tc.want == passing && objstore.Lasting(err) || tc.want != passing && !errors.Is(err, tc.want) {
			t.Errorf("%d %s: got %v, want %v", tc.status, tc.code, err, tc.want)
		}
		if !strings.Contains(err.Error(), tc.header) || strings.Count(err.Error(), "s3://b/key") != 1 {
			t.Errorf("%d %s: error is %q", tc.status, tc.code, err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d %s: asked %d times; retries are not this package's", tc.status, tc.code, n)
		}
	}
}

// What goes over the wire: the conditions, no trailers, no hash of the body.
func TestPutRequest(t *testing.T) {
	var got http.Header
	var body string
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r.Header, string(b)
		w.Header().Set("ETag", `"abc"`)
	})
	opts := objstore.PutOptions{Cond: objstore.Cond{If: "old"}, Meta: map[string]string{"write-id": "w"}}
	info, err := s.Put(t.Context(), "key", strings.NewReader("body"), 4, opts)
	if err != nil || info.Rev != "abc" || body != "body" {
		t.Fatalf("%+v, %v, sent %q", info, err, body)
	}
	for header, want := range map[string]string{"If-Match": `"old"`, "X-Amz-Meta-Write-Id": "w",
		"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD", "X-Amz-Trailer": "", "Content-Encoding": ""} {
		if got.Get(header) != want {
			t.Errorf("%s is %q, want %q", header, got.Get(header), want)
		}
	}
}

// A server that encodes keys, as Amazon's does, and pages.
func TestListEncoded(t *testing.T) {
	var query []string
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		query = append(query, r.URL.Query().Get("continuation-token"))
		token, key := "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>", "a+b%2Bc%25"
		if len(query) == 2 {
			token, key = "<IsTruncated>false</IsTruncated>", "b%01"
		}
		fmt.Fprintf(w, `<ListBucketResult><EncodingType>url</EncodingType>%s<Contents><Key>%s</Key><ETag>"e"</ETag><Size>1</Size></Contents></ListBucketResult>`, token, key)
	})
	var keys []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if !slices.Equal(keys, []string{"a b+c%", "b\x01"}) || !slices.Equal(query, []string{"", "t"}) {
		t.Errorf("List yields %q, asked %q", keys, query)
	}
}

// A body that is shorter than its size is our own fault, and says so.
func TestShortBodyIsNotRetried(t *testing.T) {
	server := servers.Versitygw(t)
	s := objstore.Retry(open(t, server, s3.Config{}), objstore.Policy{})
	_, err := s.Put(t.Context(), "k", strings.NewReader("short"), 100, objstore.PutOptions{})
	if !errors.Is(err, fs.ErrInvalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// An Assemble that fails, for whatever reason, leaves no upload behind.
func TestAssembleAborts(t *testing.T) {
	server := servers.Versitygw(t)
	s := open(t, server, s3.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, check := range []func() error{
		func() error { return errors.New("torn") },
		func() error { cancel(); return nil },
	} {
		_, err := s.Assemble(ctx, "k", "", []objstore.Part{{Size: 4, Body: strings.NewReader("body")}}, check, objstore.PutOptions{})
		if err == nil {
			t.Fatal("no error")
		}
	}
	left := 0
	err := filepath.WalkDir(server.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			t.Logf("left %s", strings.TrimPrefix(path, server.Dir))
			left++
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil || left != 0 {
		t.Errorf("%d files are left, %v", left, err)
	}
}

// A delta sends what changed: neighbouring ranges are one copy, and only the
// new bytes are uploaded.
func TestAssembleSendsTheDelta(t *testing.T) {
	const mib = 1 << 20
	var copies, bytes atomic.Int64
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		switch {
		case r.URL.Query().Has("uploads"):
			fmt.Fprint(w, "<R><UploadId>u</UploadId></R>")
		case r.Header.Get("X-Amz-Copy-Source") != "":
			if r.Header.Get("X-Amz-Copy-Source-If-Match") != `"base"` {
				t.Errorf("copied from %q", r.Header.Get("X-Amz-Copy-Source-If-Match"))
			}
			copies.Add(1)
			fmt.Fprint(w, `<R><ETag>"p"</ETag></R>`)
		case r.Method == http.MethodPut:
			bytes.Add(n)
			w.Header().Set("ETag", `"p"`)
		default:
			fmt.Fprint(w, `<R><ETag>"whole-4"</ETag></R>`)
		}
	})
	var parts []objstore.Part
	for i := range int64(8) {
		parts = append(parts, objstore.Part{Size: 8 * mib, Base: i * 8 * mib})
	}
	parts[3] = objstore.Part{Size: 8 * mib, Body: strings.NewReader(strings.Repeat("x", 8*mib))}
	info, err := s.Assemble(t.Context(), "k", "base", parts, nil, objstore.PutOptions{Cond: objstore.Cond{If: "base"}})
	if err != nil || info.Size != 64*mib || info.Rev != "whole-4" {
		t.Fatal(info, err)
	}
	if copies.Load() != 2 || bytes.Load() != 8*mib {
		t.Errorf("%d copies and %d bytes, want 2 and %d", copies.Load(), bytes.Load(), 8*mib)
	}
}
