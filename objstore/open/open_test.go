package open_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/open"
)

func roundTrip(t *testing.T, url string) {
	t.Helper()
	s, err := open.Bucket(t.Context(), url, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateBucket(t.Context()); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "k", strings.NewReader("v"), 1, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Head(t.Context(), "k"); err != nil || info.Size != 1 {
		t.Fatal(info, err)
	}
}

func TestFile(t *testing.T) {
	roundTrip(t, "file://"+t.TempDir()+"/bucket")
	roundTrip(t, "file://"+t.TempDir()+"/bucket?xattr=off")
}

// The environment of the AWS tools and the parameters of the URL both lead to
// the server.
func TestS3(t *testing.T) {
	server := servers.Versitygw(t)
	server.Setenv(t)
	bucket := server.NewBucket(t)
	roundTrip(t, "s3://"+bucket+"/prefix")
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	roundTrip(t, "s3://"+bucket+"/prefix?region=us-east-1&endpoint="+server.Endpoint)
}

// The environment of Google's tools and the parameters of the URL both lead to
// the server.
func TestGCS(t *testing.T) {
	server := servers.GCS(t)
	t.Setenv("STORAGE_EMULATOR_HOST", server.Endpoint)
	roundTrip(t, "gs://made-here/prefix")
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
	roundTrip(t, "gs://made-here/prefix?project=p&location=EU&storage-class=STANDARD&endpoint="+server.Endpoint)
}

// R2's own variables lead to its server, and those of the AWS tools nowhere.
func TestR2(t *testing.T) {
	server := servers.R2(t)
	server.Setenv(t)
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	t.Setenv("AWS_PROFILE", "nobody")
	bucket := server.NewBucket(t)
	roundTrip(t, "r2://"+bucket+"/prefix")
	t.Setenv("R2_ENDPOINT_URL", "http://127.0.0.1:1")
	roundTrip(t, "r2://"+bucket+"/prefix?storage-class=STANDARD_IA&endpoint="+server.Endpoint)
}

// Options reach a real server, which checks them.
func TestS3Options(t *testing.T) {
	server := servers.Versitygw(t)
	server.Setenv(t)
	roundTrip(t, "s3://"+server.NewBucket(t)+"?tags=team:a,cost center:b%3Dc&path-style=true&requester-pays=true&storage-class=STANDARD")
}

func TestRefuses(t *testing.T) {
	for _, name := range []string{"R2_ENDPOINT_URL", "R2_ENDPOINT", "R2_ACCESS_KEY_ID"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	t.Setenv("HOME", t.TempDir())
	for url, want := range map[string]string{
		"gcs://b":                       "gcs:// is not supported yet; what is: file://, s3://, r2://, gs://",
		"gs://b":                        "no Google Cloud credentials found",
		"gs://b?region=eu":              `no parameter "region"`,
		"gs://b?endpoint=localhost":     "is no http:// or https:// URL",
		"r2://b?region=eu":              `no parameter "region"`,
		"r2://b?anonymous=true":         `no parameter "anonymous"`,
		"r2://b?tags=a:b":               "r2://b: R2 has no tags",
		"s3://b?tags=a":                 `"a" is not`,
		"s3://b?tags=a:b,a:c":           `"a:c" is not`,
		"s3://b?sse=rot13":              "not AES256",
		"s3://b?path-style=perhaps":     "not on or off",
		"s3://b?endpoint=http://u:p@h":  "no http:// or https:// URL",
		"http://b":                      "http:// is not supported yet",
		"s3://b?regoin=eu":              `no parameter "regoin"`,
		"s3://b?anonymous=maybe":        "not on or off",
		"s3://b?endpoint=localhost":     "no http:// or https:// URL",
		"s3://b":                        "credentials",
		"file:///srv/b?region=eu":       `no parameter "region"`,
		"file://relative":               "relative",
		"s3://b?profile=nobody-of-that": "nobody-of-that",
	} {
		_, err := open.Bucket(t.Context(), url, open.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
	}
	for _, url := range []string{"s3://b?anonymous=true&region=us-east-1", "gs://b?anonymous=true"} {
		if _, err := open.Bucket(t.Context(), url, open.Options{}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := open.Bucket(t.Context(), "s3://b", open.Options{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no credentials: %v", err)
	}
}
