package s3_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// open returns a store over a bucket of the server's.
func open(t testing.TB, server *servers.S3Server, c s3.Config) *s3.Store {
	t.Helper()
	c.Endpoint = server.Endpoint
	if c.Bucket == "" {
		c.Bucket = server.NewBucket(t)
	}
	if c.Credentials == nil && !c.Anonymous {
		c.Credentials = credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")
	}
	s, err := s3.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	server := servers.Versitygw(t)
	storetest.Run(t, func(t *testing.T) objstore.Store {
		// As it is used: versitygw answers 409 when the Delete of the last
		// object of a directory races with a Put into it.
		return objstore.Retry(open(t, server, s3.Config{}), objstore.Policy{First: 10 * time.Millisecond})
	})
}

// Stores below two prefixes of a bucket do not see one another.
func TestPrefix(t *testing.T) {
	server := servers.Versitygw(t)
	bucket := server.NewBucket(t)
	a := open(t, server, s3.Config{Bucket: bucket, Prefix: "team-a/x y"})
	b := open(t, server, s3.Config{Bucket: bucket, Prefix: "team-a/x"})
	for _, s := range []*s3.Store{a, b} {
		put(t, s, "k/1", s.Where().URL())
	}
	for _, s := range []*s3.Store{a, b} {
		var keys []string
		for info, err := range s.List(t.Context(), "k", "") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, info.Key)
		}
		if len(keys) != 1 || keys[0] != "k/1" || get(t, s, "k/1") != s.Where().URL() {
			t.Errorf("%s holds %q", s.Where(), keys)
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

// What users get wrong has a name, and one line.
func TestErrors(t *testing.T) {
	server := servers.Versitygw(t)
	bucket := server.NewBucket(t)
	for name, tc := range map[string]struct {
		c    s3.Config
		want error
	}{
		"key":     {s3.Config{Bucket: bucket, Credentials: credentials.NewStaticCredentialsProvider("nobody", "x", "")}, fs.ErrPermission},
		"secret":  {s3.Config{Bucket: bucket, Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, "x", "")}, fs.ErrPermission},
		"unknown": {s3.Config{Bucket: bucket, Anonymous: true}, fs.ErrPermission},
		"bucket":  {s3.Config{Bucket: "no-such-bucket"}, objstore.ErrNoBucket},
	} {
		s := open(t, server, tc.c)
		if _, err := s.BucketExists(t.Context()); errors.Is(err, fs.ErrPermission) != (tc.want == fs.ErrPermission) {
			t.Errorf("%s: BucketExists: %v", name, err)
		}
		_, _, err := s.Get(t.Context(), "k", 0, -1, objstore.Cond{})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if strings.Count(err.Error(), "s3://"+tc.c.Bucket+"/k") != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is %q", name, err)
		}
	}
	server.Stop()
	_, err := open(t, server, s3.Config{Bucket: bucket}).Head(t.Context(), "k")
	if !errors.Is(err, syscall.ECONNREFUSED) || len(err.Error()) > 120 {
		t.Errorf("server down: %v", err)
	}
}

func BenchmarkPut4K(b *testing.B) {
	body := strings.Repeat("x", 4096)
	var n atomic.Int64
	s := open(b, servers.Versitygw(b), s3.Config{})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			put(b, s, fmt.Sprintf("k/%d", n.Add(1)), body)
		}
	})
}

func BenchmarkPut4KAlone(b *testing.B) {
	body := strings.Repeat("x", 4096)
	s := open(b, servers.Versitygw(b), s3.Config{})
	for i := range b.N {
		put(b, s, fmt.Sprintf("k/%d", i), body)
	}
}

func BenchmarkGet4K(b *testing.B) {
	s := open(b, servers.Versitygw(b), s3.Config{})
	put(b, s, "k", strings.Repeat("x", 4096))
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			get(b, s, "k")
		}
	})
}
