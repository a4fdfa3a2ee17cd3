package s3_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// openR2 returns a store over a bucket of a server that keeps R2's rules.
func openR2(t testing.TB, server *servers.R2Server, c s3.Config) *s3.Store {
	t.Helper()
	c.Scheme = "r2"
	if c.Bucket == "" {
		c.Bucket = server.NewBucket(t)
	}
	if c.Endpoint == "" {
		c.Endpoint = server.Endpoint
	}
	c.Credentials = credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")
	s, err := s3.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestR2Store(t *testing.T) {
	server := servers.R2(t)
	storetest.Run(t, func(t *testing.T) objstore.Store { return openR2(t, server, s3.Config{}) })
}

// A bucket of R2 by the scheme of S3, and its endpoint, has R2's quirks.
func TestR2ByEndpoint(t *testing.T) {
	for endpoint, want := range map[string]bool{"https://id.eu.r2.cloudflarestorage.com": true, "http://localhost:1": false} {
		s, err := s3.New(t.Context(), s3.Config{Bucket: "b", Endpoint: endpoint, Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")})
		if err != nil || s.Caps().UniformParts != want {
			t.Errorf("%s: %+v, %v", endpoint, s, err)
		}
	}
}

// tampered returns the address of a proxy that calls before ahead of every
// request it passes to the server.
func tampered(t *testing.T, server *servers.R2Server, before func(*http.Request)) string {
	u, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Host = r.In.Host // it is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// R2 copies ranges of whatever is there. A base that is replaced while they are
// copied must not end in an object of both.
func TestR2AssembleSeesTheBaseReplaced(t *testing.T) {
	const n = 5 << 20
	server := servers.R2(t)
	for _, tc := range []struct {
		name string
		cond func(base objstore.Rev) objstore.Cond
	}{
		{"unconditional", func(objstore.Rev) objstore.Cond { return objstore.Cond{} }},
		{"conditional", func(base objstore.Rev) objstore.Cond { return objstore.Cond{If: base} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var plain objstore.Store
			replaced := false
			front := tampered(t, server, func(r *http.Request) {
				if r.Header.Get("X-Amz-Copy-Source") != "" && !replaced {
					replaced = true
					put(t, plain, "k", strings.Repeat("new", n))
				}
			})
			s := openR2(t, server, s3.Config{Endpoint: front})
			var err error
			plain, err = s3.New(t.Context(), s3.Config{Scheme: "r2", Bucket: s.Where().Bucket, Endpoint: server.Endpoint,
				Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
			if err != nil {
				t.Fatal(err)
			}
			base := put(t, s, "k", strings.Repeat("old", n)).Rev
			parts := []objstore.Part{{Size: n}, {Size: n, Base: n}, {Size: 3, Body: strings.NewReader("end")}}
			_, err = s.Assemble(t.Context(), "k", base, parts, nil, objstore.PutOptions{Cond: tc.cond(base)})
			if !errors.Is(err, objstore.ErrPrecondition) || !replaced {
				t.Errorf("got %v, replaced: %v", err, replaced)
			}
			if get(t, plain, "k") != strings.Repeat("new", n) {
				t.Error("the writer in between has lost")
			}
		})
	}
}

// A base that is not what it should be is found before anything is copied.
func TestR2AssembleChecksTheBase(t *testing.T) {
	server := servers.R2(t)
	copied := false
	s := openR2(t, server, s3.Config{Endpoint: tampered(t, server, func(r *http.Request) {
		copied = copied || r.Header.Get("X-Amz-Copy-Source") != ""
	})})
	rev := put(t, s, "k", strings.Repeat("x", 6<<20)).Rev
	for name, tc := range map[string]struct {
		base objstore.Rev
		cond objstore.Cond
	}{
		"other":            {"0123", objstore.Cond{}},
		"two revisions":    {rev, objstore.Cond{If: "0123"}},
		"there and absent": {rev, objstore.Cond{Absent: true}},
	} {
		_, err := s.Assemble(t.Context(), "k", tc.base, []objstore.Part{{Size: 6 << 20}}, nil, objstore.PutOptions{Cond: tc.cond})
		if !errors.Is(err, objstore.ErrPrecondition) || copied {
			t.Errorf("%s: %v, copied: %v", name, err, copied)
		}
	}
}

// One write a second and key: the 429 passes with patience.
func TestR2OnePerSecond(t *testing.T) {
	server := servers.R2(t)
	server.OnePerSecond()
	throttled := 0
	s := objstore.Retry(openR2(t, server, s3.Config{}), objstore.Policy{
		OnRetry: func(_ objstore.Op, _ string, _ int, _ time.Duration, err error) {
			if errors.Is(err, objstore.ErrThrottled) {
				throttled++
			}
		}})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	if throttled == 0 || get(t, s, "k") != "2" {
		t.Errorf("throttled %d times, then %q", throttled, get(t, s, "k"))
	}
}

// home makes a home directory with files.
func home(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("USERPROFILE", dir)
}

// asked answers every request by 404 and remembers where it went and who signed.
type asked struct{ host, key string }

func (a *asked) Do(r *http.Request) (*http.Response, error) {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	a.host = r.URL.Scheme + "://" + r.URL.Host
	a.key, _, _ = strings.Cut(scope, "/2")
	return &http.Response{StatusCode: 404, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader("<Error><Code>NoSuchKey</Code></Error>"))}, nil
}

const r2Files = "[default]\naws_access_key_id = wrong\naws_secret_access_key = s\n" +
	"[r2]\naws_access_key_id = file\naws_secret_access_key = s\n" +
	"[work]\naws_access_key_id = work\naws_secret_access_key = s\n" +
	"[empty]\nregion = auto\n"

// What the URL says goes before R2_*, and that before SkyPilot's files. What is
// meant for Amazon's has no say.
func TestR2Places(t *testing.T) {
	files := map[string]string{".cloudflare/r2.credentials": r2Files, ".cloudflare/accountid": " f11e \nmore\n"}
	keys := map[string]string{"R2_ACCESS_KEY_ID": "env", "R2_SECRET_ACCESS_KEY": "s"}
	for name, tc := range map[string]struct {
		c         s3.Config
		env       map[string]string
		host, key string
	}{
		"files":               {s3.Config{}, nil, "https://f11e.r2.cloudflarestorage.com", "file"},
		"profile":             {s3.Config{Profile: "work"}, keys, "https://f11e.r2.cloudflarestorage.com", "work"},
		"keys":                {s3.Config{}, keys, "https://f11e.r2.cloudflarestorage.com", "env"},
		"account":             {s3.Config{}, map[string]string{"R2_ACCOUNT_ID": "e2"}, "https://e2.r2.cloudflarestorage.com", "file"},
		"cloudflare's":        {s3.Config{}, map[string]string{"CLOUDFLARE_ACCOUNT_ID": "c1"}, "https://c1.r2.cloudflarestorage.com", "file"},
		"URL's account":       {s3.Config{Account: "a1"}, map[string]string{"R2_ACCOUNT_ID": "e2"}, "https://a1.r2.cloudflarestorage.com", "file"},
		"eu":                  {s3.Config{Jurisdiction: "eu"}, map[string]string{"R2_ENDPOINT_URL": "http://h:1"}, "https://f11e.eu.r2.cloudflarestorage.com", "file"},
		"fedramp":             {s3.Config{Jurisdiction: "fedramp"}, nil, "https://f11e.fedramp.r2.cloudflarestorage.com", "file"},
		"endpoint":            {s3.Config{}, map[string]string{"R2_ENDPOINT_URL": "http://h:1"}, "http://h:1", "file"},
		"endpoint, short":     {s3.Config{}, map[string]string{"R2_ENDPOINT": "http://h:2"}, "http://h:2", "file"},
		"URL's endpoint":      {s3.Config{Endpoint: "http://h:3"}, map[string]string{"R2_ENDPOINT_URL": "http://h:1"}, "http://h:3", "file"},
		"Amazon's in the way": {s3.Config{}, map[string]string{"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "aws", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://h:9", "AWS_ENDPOINT_URL_S3": "http://h:9", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://f11e.r2.cloudflarestorage.com", "file"},
	} {
		t.Run(name, func(t *testing.T) {
			clearR2(t)
			home(t, files)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			var got asked
			tc.c.Scheme, tc.c.Bucket = "r2", "b"
			s, err := s3.New(t.Context(), s3.With(tc.c, &got))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = s.BucketExists(t.Context()); got.host != tc.host || got.key != tc.key {
				t.Errorf("asked %+v, want %s %s (%v)", got, tc.host, tc.key, err)
			}
		})
	}
}

func clearR2(t *testing.T) {
	for _, name := range []string{"R2_ENDPOINT_URL", "R2_ENDPOINT", "R2_ACCOUNT_ID", "CLOUDFLARE_ACCOUNT_ID", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
}

// What is missing has one line that names it.
func TestR2Missing(t *testing.T) {
	account := map[string]string{".cloudflare/accountid": "f11e\n"}
	both := map[string]string{".cloudflare/accountid": "f11e\n", ".cloudflare/r2.credentials": r2Files}
	for want, tc := range map[string]struct {
		c     s3.Config
		files map[string]string
	}{
		"r2://b/p: R2 credentials: no account id: no ~/.cloudflare/accountid":                  {},
		"r2://b/p: R2 credentials: no ~/.cloudflare/r2.credentials":                            {files: account},
		"r2://b/p: R2 credentials: no profile [other] in ~/.cloudflare/r2.credentials":         {c: s3.Config{Profile: "other"}, files: both},
		"r2://b/p: R2 credentials: no keys in profile [empty] of ~/.cloudflare/r2.credentials": {c: s3.Config{Profile: "empty"}, files: both},
		`r2://b/p: R2 credentials: jurisdiction is "mars", not eu or fedramp`:                  {c: s3.Config{Jurisdiction: "mars"}, files: both},
		`r2://b/p: R2 credentials: account id "f/../x" is none`:                                {c: s3.Config{Account: "f/../x"}, files: both},
		"r2://b/p: R2 takes no anonymous requests":                                             {c: s3.Config{Anonymous: true}},
		"r2://b/p: R2 has no tags on objects":                                                  {c: s3.Config{Options: s3.Options{Tags: map[string]string{"a": "b"}}}},
		"r2://b/p: R2 takes no sse: it encrypts everything by itself":                          {c: s3.Config{Options: s3.Options{SSEKMSKeyID: "k"}}},
		"r2://b/p: R2 has no requester-pays":                                                   {c: s3.Config{Options: s3.Options{RequesterPays: true}}},
		"r2://b/p: R2 has no storage class GLACIER; it has STANDARD and STANDARD_IA":           {c: s3.Config{Options: s3.Options{StorageClass: "GLACIER"}}},
	} {
		clearR2(t)
		home(t, tc.files)
		tc.c.Scheme, tc.c.Bucket, tc.c.Prefix = "r2", "b", "p"
		if _, err := s3.New(t.Context(), tc.c); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
