package gcs_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
)

// answering returns a store whose server answers by h: for what a real server
// cannot be made to say.
func answering(t testing.TB, c gcs.Config, h http.HandlerFunc) *gcs.Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c.Bucket, c.Endpoint = "b", server.URL
	s, err := gcs.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswers(t *testing.T) {
	passing := errors.New("passing")
	for _, tc := range []struct {
		status          int
		reason, message string
		want            error
	}{
		{404, "notFound", "No such object: b/key", objstore.ErrPrecondition}, // to a condition on its generation
		{404, "notFound", "The specified bucket does not exist.", objstore.ErrNoBucket},
		{412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.", objstore.ErrPrecondition},
		{401, "required", "Anonymous caller does not have storage.objects.create access", fs.ErrPermission},
		{403, "forbidden", "ada@example.com does not have storage.objects.create access", fs.ErrPermission},
		{403, "rateLimitExceeded", "slower, please", objstore.ErrThrottled},
		{429, "rateLimitExceeded", "The object exceeded the rate limit for object mutation operations.", objstore.ErrThrottled},
		{400, "required", "Bucket is requester pays bucket but no user project provided.", fs.ErrInvalid},
		{400, "invalid", "Provided CRC32C \"AAAAAA==\" doesn't match calculated CRC32C", passing},
		{408, "timeout", "", passing},
		{409, "conflict", "", passing},
		{410, "gone", "", passing},
		{413, "uploadTooLarge", "too large", fs.ErrInvalid},
		{500, "backendError", "Internal Error", passing},
		{501, "notImplemented", "", errors.ErrUnsupported},
		{503, "backendError", "Backend Error", passing},
	} {
		for _, size := range []int{1, 300 << 10} {
			var asked atomic.Int64
			s := answering(t, gcs.Config{}, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				asked.Add(1)
				w.WriteHeader(tc.status)
				fmt.Fprintf(w, `{"error":{"code":%d,"message":%q,"errors":[{"reason":%q,"message":%[2]q}]}}`, tc.status, tc.message, tc.reason)
			})
			_, err := s.Put(t.Context(), "key", strings.NewReader(strings.Repeat("x", size)), int64(size), objstore.PutOptions{Cond: objstore.Cond{If: "7"}})
			if tc.want == passing && objstore.Lasting(err) || tc.want != passing && !errors.Is(err, tc.want) {
				t.Errorf("%d %s: got %v, want %v", tc.status, tc.reason, err, tc.want)
			}
			if err == nil || strings.Count(err.Error(), "gs://b/key") != 1 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d %s: error is %q", tc.status, tc.reason, err)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("%d %s: asked %d times; retries are not this package's", tc.status, tc.reason, n)
			}
		}
	}
}

// How long to wait is the server's to say.
func TestRetryAfter(t *testing.T) {
	s := answering(t, gcs.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
	})
	_, _, read := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
	_, head := s.Head(t.Context(), "k")
	for _, err := range []error{read, head} {
		var throttled *objstore.Throttled
		if !errors.As(err, &throttled) || throttled.After != 7*time.Second {
			t.Errorf("got %v", err)
		}
	}
}

func TestBucketAnswers(t *testing.T) {
	for message, want := range map[string]error{
		"Your previous request to create the named bucket succeeded and you already own it.": fs.ErrExist,
		"The requested bucket name is not available. The bucket namespace is shared.":        fs.ErrPermission,
	} {
		s := answering(t, gcs.Config{}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(409)
			fmt.Fprintf(w, `{"error":{"code":409,"message":%q}}`, message)
		})
		if err := s.CreateBucket(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: got %v", message, err)
		}
	}
}

func TestCreateBucketRequest(t *testing.T) {
	var query, body string
	s := answering(t, gcs.Config{Project: "proj", Location: "EUROPE-WEST4"}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		query, body = r.URL.RawQuery, string(b)
		fmt.Fprint(w, `{}`)
	})
	if err := s.CreateBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(query, "project=proj") || !strings.Contains(body, `"location":"EUROPE-WEST4"`) ||
		!strings.Contains(body, `"uniformBucketLevelAccess":{"enabled":true`) {
		t.Errorf("asked ?%s %s", query, body)
	}
}

// What goes over the wire: the condition, the checksum, who pays, and how the
// object is kept.
func TestPutRequest(t *testing.T) {
	var query map[string][]string
	var object struct {
		Crc32c, StorageClass, ContentType string
		Metadata                          map[string]string
	}
	var body string
	config := gcs.Config{StorageClass: "NEARLINE", KMSKey: "projects/p/locations/l/keyRings/r/cryptoKeys/k", UserProject: "payer"}
	s := answering(t, config, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Query()
		_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		parts := multipart.NewReader(r.Body, params["boundary"])
		if part, err := parts.NextPart(); err != nil || json.NewDecoder(part).Decode(&object) != nil {
			t.Errorf("no description of the object: %v", err)
		}
		if part, err := parts.NextPart(); err == nil {
			b, _ := io.ReadAll(part)
			body = string(b)
		}
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `{"generation":"8","size":"4"}`)
	})
	opts := objstore.PutOptions{Cond: objstore.Cond{If: "7"}, Meta: map[string]string{"write-id": "w"}}
	info, err := s.Put(t.Context(), "key", strings.NewReader("body"), 4, opts)
	if err != nil || info.Rev != "8" || info.Size != 4 || body != "body" {
		t.Fatalf("%+v, %v, sent %q", info, err, body)
	}
	for name, want := range map[string]string{"ifGenerationMatch": "7", "userProject": "payer", "kmsKeyName": config.KMSKey, "uploadType": "multipart"} {
		if got := query[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if object.Crc32c != checksum("body") || object.StorageClass != "NEARLINE" || object.Metadata["write-id"] != "w" ||
		object.ContentType != "application/octet-stream" {
		t.Errorf("described as %+v", object)
	}
	if s.Caps().Append {
		t.Error("appends, though it cannot name the key of what it composes")
	}
}

func checksum(s string) string {
	sum := crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// A Get asks once, for bytes as they are stored, and notices damaged ones.
func TestGetRequest(t *testing.T) {
	var got http.Header
	var path string
	hash := checksum("body")
	s := answering(t, gcs.Config{UserProject: "payer", Prefix: "p"}, func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header, r.URL.EscapedPath()
		w.Header().Set("X-Goog-Generation", "7")
		w.Header().Set("X-Goog-Meta-Write-Id", "w")
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Add("X-Goog-Hash", "crc32c="+hash+",md5=x")
		fmt.Fprint(w, "body")
	})
	r, info, err := s.Get(t.Context(), "a/../k", 0, -1, objstore.Cond{If: "7"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(b) != "body" || info.Rev != "7" || info.Size != 4 || info.Meta["write-id"] != "w" || info.ModTime.Year() != 2006 {
		t.Errorf("%q, %v, %+v", b, err, info)
	}
	if path != "/b/p%2Fa%2F..%2Fk" || got.Get("X-Goog-If-Generation-Match") != "7" || got.Get("X-Goog-User-Project") != "payer" ||
		got.Get("Accept-Encoding") != "gzip" || got.Get("Range") != "" {
		t.Errorf("asked %s with %v", path, got)
	}
	hash = checksum("else")
	again := objstore.Retry(s, objstore.Policy{})
	if r, _, err = again.Get(t.Context(), "k", 0, -1, objstore.Cond{}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err = io.ReadAll(r); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("damaged: %q, %v", b, err)
	}
}

// Somebody replaces the object while it is deleted: what they wrote goes too,
// as by a Delete that came later, but never by the request meant for another.
func TestDeleteMeetsWriter(t *testing.T) {
	generation, deletes := 7, 0
	s := answering(t, gcs.Config{}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && generation == 0:
			w.WriteHeader(404)
			fmt.Fprint(w, `{"error":{"code":404,"message":"No such object: b/k"}}`)
		case r.Method == http.MethodGet:
			fmt.Fprintf(w, `{"generation":"%d"}`, generation)
			if generation < 9 {
				generation++
			}
		case r.URL.Query().Get("ifGenerationMatch") == fmt.Sprint(generation):
			generation = 0
			deletes++
		default:
			deletes++
			w.WriteHeader(412)
			fmt.Fprint(w, `{"error":{"code":412,"message":"no"}}`)
		}
	})
	if err := s.Delete(t.Context(), "k"); err != nil || deletes != 3 || generation != 0 {
		t.Errorf("%v after %d requests, generation %d is left", err, deletes, generation)
	}
}
