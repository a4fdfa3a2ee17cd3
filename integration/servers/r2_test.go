package servers_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/skyagent/skyagent/integration/servers"
)

// A recorder is a test that may fail without harm.
type recorder struct {
	testing.TB
	said []string // only read after the answer
}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// A caller is the plainest client: it signs what it is told to send.
type caller struct {
	*testing.T
	judged *recorder
	server *servers.R2Server
	bucket string
	region string
}

func newCaller(t *testing.T) *caller {
	judged := &recorder{TB: t}
	server := servers.R2(judged)
	return &caller{t, judged, server, server.NewBucket(t), "auto"}
}

// send returns the status and what the answer says, its ETag before it.
func (c *caller) send(method, path, body string, headers ...string) (int, string) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, c.server.Endpoint+"/"+c.bucket+"/"+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	creds := aws.Credentials{AccessKeyID: c.server.AccessKey, SecretAccessKey: c.server.SecretKey}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, req, "UNSIGNED-PAYLOAD", "s3", c.region, time.Now()); err != nil {
		c.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag") + string(b)
}

// want checks an answer, and whether the client was found guilty by it.
func (c *caller) want(what string, guilty bool, status int, code string) func(int, string) {
	return func(gotStatus int, got string) {
		c.Helper()
		if gotStatus != status || !strings.Contains(got, code) {
			c.Errorf("%s: %d %s, want %d %s", what, gotStatus, got, status, code)
		}
		if (len(c.judged.said) > 0) != guilty {
			c.Errorf("%s: the judge said %q", what, c.judged.said)
		}
		c.judged.said = nil
	}
}

// What R2 refuses, the judge does.
func TestR2Refuses(t *testing.T) {
	c := newCaller(t)
	c.want("a write", false, 200, "")(c.send("PUT", "k", "x"))
	for _, tc := range []struct {
		method, path, header string
		status               int
		code                 string
	}{
		{"PUT", "k?partNumber=1&uploadId=1", "X-Amz-Copy-Source-If-Match: \"e\"", 501, "NotImplemented"},
		{"PUT", "k", "X-Amz-Tagging: a=b", 501, "NotImplemented"},
		{"GET", "k?tagging", "X-A: b", 501, "NotImplemented"},
		{"PUT", "k", "X-Amz-Server-Side-Encryption: AES256", 501, "NotImplemented"},
		{"GET", "k", "X-Amz-Request-Payer: requester", 501, "NotImplemented"},
		{"PUT", "k", "X-Amz-Trailer: x-amz-checksum-crc32", 501, "NotImplemented"},
		{"PUT", "k", "X-Amz-Storage-Class: GLACIER", 400, "InvalidStorageClass"},
		{"DELETE", "k", "If-Match: \"e\"", 501, "NotImplemented"},
	} {
		c.want(tc.method+" "+tc.header, true, tc.status, tc.code)(c.send(tc.method, tc.path, "", tc.header))
	}
	c.want("two checksums", true, 400, "InvalidRequest")(c.send("PUT", "k", "", "Content-Md5: a", "X-Amz-Checksum-Crc32: b"))
	c.want("a copy's condition", true, 501, "NotImplemented")(c.send("PUT", "k", "", "X-Amz-Copy-Source: /b/k", "If-None-Match: *"))
	c.want("a write to a missing key", false, 412, "PreconditionFailed")(c.send("PUT", "missing", "", "If-Match: \"e\""))
	c.region = "eu-west-1"
	c.want("a region", true, 400, "InvalidRegionName")(c.send("GET", "k", ""))
}

// The signature is checked.
func TestR2Signature(t *testing.T) {
	c := newCaller(t)
	c.want("a read", false, 404, "NoSuchKey")(c.send("GET", "k", ""))
	c.server.SecretKey = "other"
	c.want("a wrong secret", false, 403, "SignatureDoesNotMatch")(c.send("GET", "k", ""))
}

var uploadID = regexp.MustCompile("<UploadId>(.*)</UploadId>")

// upload makes an object of parts; a negative size copies that many bytes.
func (c *caller) upload(sizes ...int) (int, string) {
	c.Helper()
	_, answer := c.send("POST", "k?uploads=", "")
	id := uploadID.FindStringSubmatch(answer)[1]
	var named strings.Builder
	for i, size := range sizes {
		path := fmt.Sprintf("k?partNumber=%d&uploadId=%s", i+1, id)
		if size < 0 {
			_, answer = c.send("PUT", path, "", "X-Amz-Copy-Source: /"+c.bucket+"/k", fmt.Sprintf("X-Amz-Copy-Source-Range: bytes=0-%d", -size-1))
		} else {
			_, answer = c.send("PUT", path, strings.Repeat("x", size))
		}
		etag := regexp.MustCompile("[0-9a-f]{32}").FindString(answer)
		fmt.Fprintf(&named, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	return c.send("POST", "k?uploadId="+id, "<CompleteMultipartUpload>"+named.String()+"</CompleteMultipartUpload>")
}

// All parts but the last have one size, and the last no more: copied parts too.
func TestR2Parts(t *testing.T) {
	const mib = 1 << 20
	c := newCaller(t)
	c.want("even parts", false, 200, "")(c.upload(6*mib, 6*mib, 6*mib))
	c.want("even copies", false, 200, "")(c.upload(-6*mib, 6*mib, 100))
	c.want("one part", false, 200, "")(c.upload(12 * mib))
	c.want("uneven parts", true, 400, "InvalidPart")(c.upload(6*mib, 5*mib, 1))
	c.want("an uneven copy", true, 400, "InvalidPart")(c.upload(6*mib, -7*mib, 6*mib))
	c.want("a long last part", true, 400, "InvalidPart")(c.upload(5*mib, 6*mib))
	c.want("a long last copy", true, 400, "InvalidPart")(c.upload(5*mib, -6*mib))
	c.want("small parts", true, 400, "EntityTooSmall")(c.upload(mib, mib))
}

func TestR2OnePerSecond(t *testing.T) {
	c := newCaller(t)
	c.server.OnePerSecond()
	c.want("a write", false, 200, "")(c.send("PUT", "k", "1"))
	c.want("another at once", false, 429, "TooManyRequests")(c.send("PUT", "k", "2"))
	c.want("another key", false, 200, "")(c.send("PUT", "l", "1"))
	c.want("a read", false, 200, "1")(c.send("GET", "k", ""))
}
