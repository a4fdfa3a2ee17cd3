package s3_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// optionNames are the headers of options, without X-Amz-.
var optionNames = []string{"Request-Payer", "Server-Side-Encryption", "Server-Side-Encryption-Aws-Kms-Key-Id",
	"Storage-Class", "Tagging", "Tagging-Directive"}

// Every operation carries the options that it takes, signed, and no others.
func TestOptions(t *testing.T) {
	got := make(map[string][]string) // operation → headers
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := r.Method
		for _, q := range []string{"uploads", "partNumber", "uploadId", "list-type", "delete"} {
			if r.URL.Query().Has(q) {
				op += " " + q
			}
		}
		if r.Header.Get("X-Amz-Copy-Source") != "" {
			op += " copy"
		}
		got[op] = nil
		for _, name := range optionNames {
			if v := r.Header.Get("X-Amz-" + name); v != "" {
				got[op] = append(got[op], name+": "+v)
				if !strings.Contains(r.Header.Get("Authorization"), strings.ToLower("x-amz-"+name)) {
					t.Errorf("%s: %s is not signed", op, name)
				}
			}
		}
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(everything)))
		io.WriteString(w, everything)
	}))
	t.Cleanup(server.Close)
	s := open(t, &servers.S3Server{Endpoint: server.URL, AccessKey: "a", SecretKey: "s"}, s3.Config{Bucket: "b", Options: s3.Options{
		SSEKMSKeyID: "key", StorageClass: "STANDARD_IA", Tags: map[string]string{"team": "a b", "cost": "x=y"}, RequesterPays: true}})
	exercise(t, s)
	pays := []string{"Request-Payer: requester"}
	write := append(pays, "Server-Side-Encryption: aws:kms", "Server-Side-Encryption-Aws-Kms-Key-Id: key",
		"Storage-Class: STANDARD_IA", "Tagging: cost=x%3Dy&team=a%20b")
	for op, want := range map[string][]string{
		"PUT": write, "POST uploads": write, "PUT copy": append(write[:len(write):len(write)], "Tagging-Directive: REPLACE"),
		"GET": pays, "HEAD": pays, "GET list-type": pays, "POST delete": pays, "DELETE": pays,
		"PUT partNumber uploadId": pays, "PUT partNumber uploadId copy": pays, "POST uploadId": pays,
	} {
		if !slices.Equal(got[op], want) {
			t.Errorf("%s has %q, want %q", op, got[op], want)
		}
	}
}

// everything answers any operation.
const everything = `<R><UploadId>u</UploadId><ETag>"e"</ETag><IsTruncated>false</IsTruncated></R>`

// exercise makes a store do all it can.
func exercise(t *testing.T, s objstore.Store) {
	t.Helper()
	ctx := t.Context()
	put(t, s, "k", "v")
	get(t, s, "k")
	_, err := s.Copy(ctx, "l", "k", "e", objstore.PutOptions{})
	must(t, err)
	parts := []objstore.Part{{Size: 6 << 20, Base: 0}, {Size: 1, Body: strings.NewReader("x")}}
	_, err = s.Assemble(ctx, "k", "e", parts, nil, objstore.PutOptions{})
	must(t, err)
	for _, err := range s.List(ctx, "", "") {
		must(t, err)
	}
	must(t, s.Delete(ctx, "k"))
	must(t, s.Delete(ctx, "k", "l"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A amazon is Amazon's S3 with one bucket in eu-west-1: it tells everybody
// where the bucket is, and serves it to those who come there.
type amazon struct {
	asked  int // HeadBucket
	served int
}

const elsewhere = "eu-west-1"

func (a *amazon) Do(r *http.Request) (*http.Response, error) {
	resp := &http.Response{Request: r, Header: http.Header{}, Body: http.NoBody, StatusCode: http.StatusOK}
	resp.Header.Set("X-Amz-Bucket-Region", elsewhere)
	resp.Header.Set("Etag", `"e"`)
	signed := r.Header.Get("Authorization")
	switch {
	case r.Method == http.MethodHead && signed == "":
		a.asked++
		resp.StatusCode = http.StatusForbidden
		if !strings.Contains(r.URL.Host, elsewhere) {
			resp.StatusCode = http.StatusMovedPermanently
		}
	case !strings.Contains(r.URL.Host, elsewhere):
		resp.StatusCode = http.StatusMovedPermanently
		resp.Body = io.NopCloser(strings.NewReader("<Error><Code>PermanentRedirect</Code></Error>"))
	case !strings.Contains(signed, "/"+elsewhere+"/"):
		resp.StatusCode = http.StatusBadRequest
		resp.Body = io.NopCloser(strings.NewReader("<Error><Code>AuthorizationHeaderMalformed</Code></Error>"))
	default:
		a.served++
	}
	return resp, nil
}

// noAWS takes away the machine's own configuration of the AWS tools.
func noAWS(t *testing.T) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") && name != "AWS_CA_BUNDLE" {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	home(t, nil)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// Amazon is asked once where a bucket is, whatever region is configured; only
// what the caller says by itself is taken as it is.
func TestRegion(t *testing.T) {
	static := credentials.NewStaticCredentialsProvider("a", "s", "")
	for _, tc := range []struct {
		name, env, param string
		asked, served    int
	}{
		{"none", "", "", 1, 2},
		{"wrong", "us-west-2", "", 1, 2},
		{"right", elsewhere, "", 1, 2},
		{"said, right", "us-west-2", elsewhere, 0, 2},
		{"said, wrong", "", "us-west-2", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			noAWS(t)
			t.Setenv("AWS_REGION", tc.env)
			var a amazon
			s, err := s3.New(t.Context(), s3.With(s3.Config{Bucket: "b", Region: tc.param, Credentials: static}, &a))
			must(t, err)
			for range 2 {
				_, err = s.Put(t.Context(), "k", strings.NewReader("v"), 1, objstore.PutOptions{})
			}
			if a.asked != tc.asked || a.served != tc.served {
				t.Errorf("asked %d times, served %d, want %d and %d: %v", a.asked, a.served, tc.asked, tc.served, err)
			}
			if tc.served == 0 && (err == nil || err.Error() != "put s3://b/k: the bucket is in region eu-west-1") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server that is not Amazon's is not asked: what its buckets' region is
// called means nothing.
func TestRegionOfOthers(t *testing.T) {
	noAWS(t)
	var a amazon
	s, err := s3.New(t.Context(), s3.With(s3.Config{Bucket: "b", Endpoint: "http://h:1", Credentials: credentials.NewStaticCredentialsProvider("a", "s", "")}, &a))
	must(t, err)
	if !s.Caps().RangeCopy || a.asked != 0 {
		t.Errorf("asked %d times", a.asked)
	}
}

// signer returns the key that a store signs with, found as the SDK finds it.
func signer(t *testing.T, c s3.Config) string {
	t.Helper()
	var got asked
	c.Bucket, c.Endpoint = "b", "http://h:1"
	s, err := s3.New(t.Context(), s3.With(c, &got))
	must(t, err)
	s.Head(context.Background(), "k")
	return got.key
}

// The SDK's own search for credentials is not disturbed.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	// A program that prints keys, which is a file to be read here.
	process := filepath.Join(dir, "keys.json")
	must(t, os.WriteFile(process, []byte(`{"Version": 1, "AccessKeyId": "process", "SecretAccessKey": "s"}`), 0o600))
	cat := "cat"
	if filepath.Separator == '\\' {
		cat = "cmd /c type"
	}
	file := filepath.Join(dir, "config")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "[profile static]\naws_access_key_id = static\naws_secret_access_key = s\n"+
		"[profile process]\ncredential_process = %s %s\n", cat, process), 0o600))
	for _, profile := range []string{"static", "process"} {
		t.Run(profile, func(t *testing.T) {
			noAWS(t)
			t.Setenv("AWS_CONFIG_FILE", file)
			t.Setenv("AWS_PROFILE", profile)
			if got := signer(t, s3.Config{}); got != profile {
				t.Errorf("AWS_PROFILE=%s signs by %q", profile, got)
			}
			t.Setenv("AWS_PROFILE", "")
			if got := signer(t, s3.Config{Profile: profile}); got != profile {
				t.Errorf("profile %s signs by %q", profile, got)
			}
		})
	}
}

// On EC2 the instance's role is asked for.
func TestInstanceCredentials(t *testing.T) {
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			io.WriteString(w, "token")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			io.WriteString(w, "role")
		case strings.HasSuffix(r.URL.Path, "/role"):
			io.WriteString(w, `{"Code":"Success","AccessKeyId":"instance","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(imds.Close)
	u, err := url.Parse(imds.URL)
	must(t, err)
	noAWS(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", u.String())
	if got := signer(t, s3.Config{}); got != "instance" {
		t.Errorf("signs by %q", got)
	}
}
