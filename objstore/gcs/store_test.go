package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/storetest"
)

const mib = 1 << 20

// open returns a store over a bucket of the server's.
func open(t testing.TB, server *servers.GCSServer, c gcs.Config) *gcs.Store {
	t.Helper()
	c.Endpoint = server.Endpoint
	if c.Bucket == "" {
		c.Bucket = server.NewBucket(t)
	}
	s, err := gcs.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	server := servers.GCS(t)
	// fake-gcs-server looks through all objects for every one: 10,000 take minutes.
	storetest.RunPages(t, 2_100, func(t *testing.T) objstore.Store {
		return objstore.Retry(open(t, server, gcs.Config{}), objstore.Policy{First: 10 * time.Millisecond})
	})
}

// Stores below two prefixes of a bucket do not see one another.
func TestPrefix(t *testing.T) {
	server := servers.GCS(t)
	bucket := server.NewBucket(t)
	a := open(t, server, gcs.Config{Bucket: bucket, Prefix: "team-a/x y"})
	b := open(t, server, gcs.Config{Bucket: bucket, Prefix: "team-a/x"})
	for _, s := range []*gcs.Store{a, b} {
		put(t, s, "k/1", s.Where().URL())
	}
	for _, s := range []*gcs.Store{a, b} {
		if got := keys(t, s, "k"); len(got) != 1 || got[0] != "k/1" || get(t, s, "k/1") != s.Where().URL() {
			t.Errorf("%s holds %q", s.Where(), got)
		}
	}
	info, err := a.Head(t.Context(), "k/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Copy(t.Context(), "k/2", "k/1", info.Rev, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(t.Context(), "k/1", "k/2"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k/1"); got != b.Where().URL() {
		t.Errorf("Delete below one prefix left %q below the other", got)
	}
}

// Every way that a body takes: at once, in one chunk, in several, and just
// where one becomes the other.
func TestSizes(t *testing.T) {
	s := open(t, servers.GCS(t), gcs.Config{})
	for _, size := range []int{0, 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 5 * mib, 16*mib - 1, 16 * mib, 16*mib + 1, 33 * mib} {
		body := pattern(size)
		put(t, s, "k", body)
		if got := get(t, s, "k"); got != body {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
	}
}

// Neither a body that ends early nor one whose check fails leaves anything,
// whatever its size: nothing is sent that the server could take for whole.
func TestAbandoned(t *testing.T) {
	s := open(t, servers.GCS(t), gcs.Config{})
	// Like an answer of the network's, for which it must not be taken.
	var torn error = &url.Error{Op: "Get", URL: "http://source", Err: errors.New("torn")}
	for _, size := range []int64{10, mib, 16 * mib, 40 * mib} {
		put(t, s, "k", "old")
		_, err := s.Put(t.Context(), "k", strings.NewReader(pattern(int(size-1))), size, objstore.PutOptions{})
		if !errors.Is(err, fs.ErrInvalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("short body of %d: %v", size, err)
		}
		parts := []objstore.Part{{Size: size, Body: strings.NewReader(pattern(int(size)))}}
		if _, err = s.Assemble(t.Context(), "k", "", parts, func() error { return torn }, objstore.PutOptions{}); !errors.Is(err, torn) {
			t.Errorf("check of %d: %v", size, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err = s.Assemble(ctx, "k", "", parts, func() error { cancel(); return nil }, objstore.PutOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d: %v", size, err)
		}
		if got := get(t, s, "k"); got != "old" {
			t.Errorf("an abandoned write of %d left %d bytes", size, len(got))
		}
		if got := keys(t, s, ""); len(got) != 1 {
			t.Errorf("left behind: %q", got)
		}
	}
}

// What is appended is all that travels.
func TestAppendSendsTheTail(t *testing.T) {
	server := servers.GCS(t)
	s := open(t, server, gcs.Config{})
	body, tail := pattern(20*mib), strings.Repeat("tail", 1000)
	base := put(t, s, "log", body)
	before := server.Uploaded()
	parts := []objstore.Part{{Size: 20 * mib}, {Size: 4000, Body: strings.NewReader(tail)}}
	info, err := s.Assemble(t.Context(), "log", base.Rev, parts, nil, objstore.PutOptions{Cond: objstore.Cond{If: base.Rev}})
	if err != nil || info.Size != 20*mib+4000 {
		t.Fatal(info, err)
	}
	if sent := server.Uploaded() - before; sent < 4000 || sent > 6000 {
		t.Errorf("%d bytes were sent for 4,000 new ones", sent)
	}
	if get(t, s, "log") != body+tail {
		t.Error("the object is not base and tail")
	}
}

// A copy has the metadata that it is given, and when that is none, none.
func TestCopyForgets(t *testing.T) {
	s := open(t, servers.GCS(t), gcs.Config{})
	from, err := s.Put(t.Context(), "src", strings.NewReader("x"), 1, objstore.PutOptions{Meta: map[string]string{"who": "src"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"dst", "src"} {
		if _, err := s.Copy(t.Context(), dst, "src", from.Rev, objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if info, err := s.Head(t.Context(), dst); err != nil || len(info.Meta) != 0 {
			t.Errorf("%s has metadata %v, %v", dst, info.Meta, err)
		}
	}
}

// What users get wrong has a name, and one line.
func TestErrors(t *testing.T) {
	server := servers.GCS(t)
	_, err := open(t, server, gcs.Config{Bucket: "no-such-bucket"}).Head(t.Context(), "k")
	if !errors.Is(err, objstore.ErrNoBucket) || strings.Count(err.Error(), "gs://no-such-bucket/k") != 1 {
		t.Errorf("missing bucket: %v", err)
	}
	s := open(t, server, gcs.Config{})
	for _, key := range []string{"", "a\xffb"} {
		if _, err := s.Head(t.Context(), key); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Head(%q): %v", key, err)
		}
	}
	down, err := gcs.New(t.Context(), gcs.Config{Bucket: "b", Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = down.Head(t.Context(), "k"); !errors.Is(err, syscall.ECONNREFUSED) || len(err.Error()) > 120 {
		t.Errorf("server down: %v", err)
	}
}

func put(t testing.TB, s objstore.Store, key, body string) objstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), objstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func get(t testing.TB, s objstore.Store, key string) string {
	t.Helper()
	r, _, err := s.Get(t.Context(), key, 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func keys(t testing.TB, s objstore.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// pattern returns n bytes that do not repeat with a chunk's length.
func pattern(n int) string {
	return string(bytes.Repeat([]byte("0123456789abc"), n/13+1)[:n])
}
