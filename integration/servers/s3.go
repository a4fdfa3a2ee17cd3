package servers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// An S3Server is one of S3's kind over a directory.
type S3Server struct {
	Endpoint  string // http://127.0.0.1:PORT
	AccessKey string
	SecretKey string
	Dir       string // holds one directory for every bucket; its objects are files for versitygw alone

	*process
}

// Versitygw starts a server of the test's own, which ends with it.
func Versitygw(t testing.TB) *S3Server {
	t.Helper()
	path := binary(t, versitygw)
	s := &S3Server{AccessKey: "skyagent-test", SecretKey: unusualSecret, Dir: t.TempDir()}
	s.process = launch(t, func(addr string) *process {
		return &process{
			path: path, addr: addr, ready: answersHTTP,
			// Without --keep-alive every request is a new connection.
			args: []string{"--port", addr, "--quiet", "--keep-alive", "posix", s.Dir},
			env:  environ("ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey),
		}
	})
	s.Endpoint = "http://" + s.addr
	return s
}

// MinIO starts a server of the test's own, which ends with it. Building it, once,
// takes a quarter of an hour.
func MinIO(t testing.TB) *S3Server {
	t.Helper()
	path := binary(t, minio)
	s := &S3Server{AccessKey: "skyagent-test", SecretKey: "skyagent-test-secret", Dir: t.TempDir()}
	s.process = launch(t, func(addr string) *process {
		return &process{
			path: path, addr: addr, ready: servesMinIO,
			args: []string{"server", "--quiet", "--address", addr, s.Dir},
			env:  environ("MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off"),
		}
	})
	s.Endpoint = "http://" + s.addr
	return s
}

func answersHTTP(addr string) error {
	_, err := statusOf("http://" + addr + "/")
	return err
}

// servesMinIO waits until the server has its disk: before that it answers 503.
func servesMinIO(addr string) error {
	status, err := statusOf("http://" + addr + "/minio/health/cluster")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("health is %d", status)
	}
	return err
}

func statusOf(url string) (int, error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// unusualSecret is a secret key that no output holds by chance, with the
// characters that real ones have and that URLs encode.
const unusualSecret = "sky/agent+Test=Secret/9QzX7"

var buckets atomic.Int64

func bucketName() string {
	return fmt.Sprintf("test-%d-%d", time.Now().UnixNano(), buckets.Add(1))
}

// NewBucket makes a bucket that nobody uses and returns its name.
func (s *S3Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := bucketName()
	if err := s.createBucket(t.Context(), name); err != nil {
		t.Fatalf("create bucket %s: %v", name, err)
	}
	return name
}

func (s *S3Server) createBucket(ctx context.Context, name string) error {
	return s.put(ctx, "/"+name, "")
}

// MakePublic lets everybody read a bucket, without credentials, and nobody write it.
func (s *S3Server) MakePublic(t testing.TB, bucket string) {
	t.Helper()
	policy := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::%[1]s/*"},
		{"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::%[1]s"}]}`, bucket)
	if err := s.put(t.Context(), "/"+bucket+"?policy", policy); err != nil {
		t.Fatalf("make bucket %s public: %v", bucket, err)
	}
}

// put sends a signed request.
func (s *S3Server) put(ctx context.Context, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.Endpoint+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	req.Header.Set("X-Amz-Content-Sha256", hash)
	creds := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hash, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("server says %s", resp.Status)
	}
	return nil
}

// Environ is the AWS environment of a user whose shell points at the server.
func (s *S3Server) Environ() []string {
	return []string{
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint, "AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Setenv gives the test itself that environment. It cannot be used in parallel
// tests.
func (s *S3Server) Setenv(t testing.TB) {
	setenv(t, s.Environ())
}

func setenv(t testing.TB, environ []string) {
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
}

// port returns the port of an address that has one.
func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return strings.TrimSpace(p)
}
