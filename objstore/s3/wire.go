package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/httpbinding"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/skyagent/skyagent/objstore"
)

// A wire sends the requests that move objects: GET, HEAD and PUT of an object
// or a part. The SDK spends several times the CPU on each, which is what bounds
// a push of many small files; its signer, its credentials, its endpoint and its
// connections serve here too.
type wire struct {
	client aws.HTTPClient
	creds  aws.CredentialsProvider // nil signs nothing
	signer *v4.Signer
	region string   // to sign for
	base   *url.URL // of the bucket, without a slash behind it
	extra  extra
}

// newWire asks the SDK where the bucket is and how to sign for it, and sends
// nothing.
func newWire(ctx context.Context, client *s3.Client, bucket string, extra extra) (*wire, error) {
	const key = "k"
	req, err := capture(ctx, client, bucket, key)
	if err != nil {
		return nil, err
	}
	o := client.Options()
	base := *req.URL
	base.Path, base.RawPath, base.RawQuery = strings.TrimSuffix(base.Path, "/"+key), "", ""
	w := &wire{client: o.HTTPClient, base: &base, extra: extra,
		signer: v4.NewSigner(func(so *v4.SignerOptions) { so.DisableURIPathEscaping = true })}
	if auth := req.Header.Get("Authorization"); auth != "" {
		w.creds = o.Credentials
		w.region, err = signingRegion(auth)
	}
	return w, err
}

// capture returns the request that the SDK would send for an object.
func capture(ctx context.Context, client *s3.Client, bucket, key string) (*http.Request, error) {
	var captured *http.Request
	stop := errors.New("captured")
	last := middleware.FinalizeMiddlewareFunc("capture", func(_ context.Context, in middleware.FinalizeInput, _ middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if req, ok := in.Request.(*smithyhttp.Request); ok {
			captured = req.Request
		}
		return middleware.FinalizeOutput{}, middleware.Metadata{}, stop
	})
	_, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key},
		s3.WithAPIOptions(func(stack *middleware.Stack) error { return stack.Finalize.Add(last, middleware.After) }))
	if captured == nil {
		return nil, err
	}
	return captured, nil
}

// signingRegion reads the region out of an Authorization header. Directory
// buckets and multi-region access points sign otherwise; the former list in no
// order, which a log cannot live with.
func signingRegion(auth string) (string, error) {
	_, scope, _ := strings.Cut(auth, "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	f := strings.Split(scope, "/")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 ") || len(f) < 5 || f[len(f)-2] != "s3" {
		return "", errors.New("only general purpose buckets are supported")
	}
	return f[len(f)-3], nil
}

// A request is one to an object. Header is sent as it is.
type request struct {
	method string
	key    string // in the bucket
	query  string // encoded
	header http.Header
	body   io.ReadSeeker // nil is none; it stands at its start
	size   int64         // of the body
}

// operation returns the protocol's name of a request that takes options.
func (r request) operation() string {
	if r.method == http.MethodPut && r.query == "" {
		return "PutObject"
	}
	return ""
}

// do sends r once. An answer that is no success is an error, as of the SDK.
func (w *wire) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := w.sign(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, refusal(resp)
	}
	return resp, nil
}

func (w *wire) sign(ctx context.Context, r request) (*http.Request, error) {
	const unsigned = "UNSIGNED-PAYLOAD" // over plain HTTP too: the hash would be a second pass over the body
	u := *w.base
	u.Path += "/" + r.key
	u.RawPath = httpbinding.EscapePath(u.Path, false)
	u.RawQuery = r.query
	req := (&http.Request{Method: r.method, URL: &u, Host: u.Host, Header: r.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	setBody(req, r)
	for _, h := range w.extra.of(r.operation()) {
		req.Header[h.name] = []string{h.value}
	}
	// The transport's own name tells an operator of the bucket nothing.
	req.Header["User-Agent"] = []string{"skyagent"}
	if w.creds == nil {
		return req, nil
	}
	// It belongs to a signature: without one, there are servers that refuse it.
	req.Header["X-Amz-Content-Sha256"] = []string{unsigned}
	creds, err := w.creds.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	return req, w.signer.SignHTTP(ctx, creds, req, unsigned, "s3", w.region, time.Now())
}

// setBody gives the transport a body that it can send again when it finds that
// the server had closed an idle connection before anything was read.
func setBody(req *http.Request, r request) {
	switch {
	case r.body == nil:
		return
	case r.size == 0:
		req.Body = http.NoBody
		return
	}
	req.ContentLength = r.size
	req.Body = io.NopCloser(r.body)
	req.GetBody = func() (io.ReadCloser, error) {
		_, err := r.body.Seek(0, io.SeekStart)
		return io.NopCloser(r.body), err
	}
}

// refusal turns an answer into the SDK's kind of error.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	var answer struct {
		Code, Message string
	}
	// What cannot be read has a status still.
	body := io.LimitReader(resp.Body, 64<<10)
	xml.NewDecoder(body).Decode(&answer)
	io.Copy(io.Discard, body) // only a body that was read to its end leaves the connection to others
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: resp},
		Err: &smithy.GenericAPIError{Code: answer.Code, Message: answer.Message}}
}

// describe reads what a GET's or HEAD's answer says about the object.
func describe(key string, resp *http.Response) (objstore.Info, error) {
	info := objstore.Info{Key: key, Size: resp.ContentLength, Rev: rev(aws.String(resp.Header.Get("Etag"))), Meta: map[string]string{}}
	info.ModTime, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	for name, values := range resp.Header {
		if name, ok := strings.CutPrefix(name, metaPrefix); ok {
			info.Meta[strings.ToLower(name)] = values[0]
		}
	}
	if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		var err error
		if info.Size, err = strconv.ParseInt(total, 10, 64); err != nil {
			return info, fmt.Errorf("content range %q: %w", resp.Header.Get("Content-Range"), err)
		}
	}
	if info.Size < 0 {
		return info, errors.New("the answer does not say how long the object is")
	}
	return info, nil
}

const metaPrefix = "X-Amz-Meta-"

// headers returns those of a write.
func headers(opts objstore.PutOptions) http.Header {
	h := make(http.Header, len(opts.Meta)+8)
	for name, value := range opts.Meta {
		h[metaPrefix+http.CanonicalHeaderKey(name)] = []string{value}
	}
	ifMatch(h, opts.Cond.If)
	if opts.Cond.Absent {
		h["If-None-Match"] = []string{"*"}
	}
	return h
}

func ifMatch(h http.Header, r objstore.Rev) {
	if r != "" {
		h["If-Match"] = []string{`"` + string(r) + `"`}
	}
}
