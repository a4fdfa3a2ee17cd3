package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/pace"
	"github.com/skyagent/skyagent/objstore/patience"
)

// Config says which bucket, and how to reach it. What is empty comes from the
// environment and the files that the AWS tools read.
type Config struct {
	Scheme      string // "s3", which "" is too, or "r2"
	Bucket      string
	Prefix      string // of all keys, without slashes around it
	Endpoint    string // URL of the server; empty is Amazon's, or AWS_ENDPOINT_URL_S3
	Region      string // empty, Amazon's buckets are asked where they are, and others in us-east-1
	Profile     string
	Anonymous   bool                    // sign nothing: public buckets
	Credentials aws.CredentialsProvider // instead of what would be found
	Pace        *pace.Pacer             // of all requests; nil is one of the Store's own, without limits
	Uploads     string                  // directory that remembers multipart uploads, to go on with them; "" aborts them
	Stall       time.Duration           // longest time without a byte of a body; 0 means 30 s
	Answer      time.Duration           // longest time from a request's end to its answer's beginning; 0 means 2 min
	PathStyle   *bool                   // whether the bucket stands in the path; nil is what the server is known for

	// Of R2: the account's id, and "eu" or "fedramp" for buckets that are
	// bound to a jurisdiction. Endpoint stands in for both.
	Account, Jurisdiction string

	Options

	client aws.HTTPClient // of tests: instead of ours
}

const (
	defaultRegion = "us-east-1"
	idleConns     = 256 // that are kept to one server
	// Off EC2 the search for credentials ends by waiting for a server that is
	// not there.
	credentialsTimeout = 5 * time.Second
	homeTimeout        = 5 * time.Second
)

// newClient returns a client that asks once and signs no payload.
func newClient(ctx context.Context, c Config) (*s3.Client, error) {
	if c.Pace == nil {
		c.Pace = pace.New(pace.Limits{})
	}
	if c.scheme() == "r2" {
		return c.newR2(ctx)
	}
	cfg, err := config.LoadDefaultConfig(ctx, c.load()...)
	if err != nil {
		return nil, fmt.Errorf("%s: read AWS configuration: %w", c.where().URL(), err)
	}
	if cfg.Region == "" || cfg.Region == "auto" {
		// "auto" (R2) makes the SDK match regular expressions on every request;
		// us-east-1 signs the same there.
		cfg.Region = defaultRegion
	}
	client := s3.NewFromConfig(cfg, c.options)
	if err := c.check(quirksOf(c.scheme(), aws.ToString(client.Options().BaseEndpoint))); err != nil {
		return nil, err
	}
	if err := c.findCredentials(ctx, cfg.Credentials); err != nil {
		return nil, err
	}
	if home := c.home(ctx, client); home != "" && home != cfg.Region {
		cfg.Region = home
		client = s3.NewFromConfig(cfg, c.options)
	}
	return client, nil
}

// home asks Amazon in which region the bucket is, unless the caller says so.
// It returns "" where it cannot know; the first request tells why, then.
func (c Config) home(ctx context.Context, client *s3.Client) string {
	o := client.Options()
	if c.Region != "" || o.BaseEndpoint != nil || !quirksOf(c.scheme(), "").homes {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, homeTimeout)
	defer cancel()
	// Nobody needs a right for this answer: also a refusal has it.
	out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &c.Bucket},
		func(o *s3.Options) { o.Credentials = nil })
	if err != nil {
		return bucketRegion(err)
	}
	return aws.ToString(out.BucketRegion)
}

func (c Config) load() []func(*config.LoadOptions) error {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(c.httpClient()),
		// The default writes to standard error; what matters comes back as an error.
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// The default adds trailers that R2 and others do not understand.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.Region != "" {
		opts = append(opts, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(c.Profile))
	}
	switch {
	case c.Anonymous:
		opts = append(opts, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	case c.Credentials != nil:
		opts = append(opts, config.WithCredentialsProvider(c.Credentials))
	}
	return opts
}

// httpClient is the SDK's own kind of client: with AWS_CA_BUNDLE set it takes
// no other.
func (c Config) httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// The default keeps 10: with more in flight every other request would
		// open a connection and close it again.
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idleConns
		t.IdleConnTimeout = 90 * time.Second
		t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
		t.DisableCompression = true
		// HTTP/2 would put all requests on one connection.
		t.ForceAttemptHTTP2 = false
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	})
}

func (c Config) options(o *s3.Options) {
	if c.Endpoint != "" {
		o.BaseEndpoint = aws.String(c.Endpoint)
	}
	q := quirksOf(c.scheme(), aws.ToString(o.BaseEndpoint))
	// A dotted bucket fits no certificate.
	o.UsePathStyle = q.pathStyle || strings.Contains(c.Bucket, ".")
	if c.PathStyle != nil {
		o.UsePathStyle = *c.PathStyle
	}
	if q.region != "" {
		o.Region = q.region
	}
	if c.client != nil {
		o.HTTPClient = c.client
	}
	// Time runs while a request is under way, not while it waits for its turn.
	o.HTTPClient = paced{c.Pace, directly(patient{patience.New(c.Stall, c.Answer), o.HTTPClient})}
	o.DisableLogOutputChecksumValidationSkipped = true
	o.APIOptions = append(o.APIOptions, c.Options.extra().middleware)
}

// directly spares requests without a body what the transport costs.
func directly(p patient) aws.HTTPClient {
	if ours, ok := p.client.(*awshttp.BuildableClient); ok {
		return newDirect(ours.GetTransport(), p)
	}
	return p
}

// patient is a client that gives up a server which stops.
type patient struct {
	patience.Limits
	client aws.HTTPClient
}

func (p patient) Do(req *http.Request) (*http.Response, error) { return p.Limits.Do(req, p.client.Do) }

// paced is a client that sends when it is its turn.
type paced struct {
	pacer  *pace.Pacer
	client aws.HTTPClient
}

func (p paced) Do(req *http.Request) (*http.Response, error) { return p.pacer.Do(req, p.client.Do) }

// findCredentials makes missing ones an error at once, with words for it.
func (c Config) findCredentials(ctx context.Context, p aws.CredentialsProvider) error {
	if c.Anonymous {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	err := errors.New("none configured")
	if p != nil {
		_, err = p.Retrieve(ctx)
	}
	if err != nil {
		return &CredentialsError{Bucket: c.where(), Err: err}
	}
	return nil
}

func (c Config) scheme() string {
	if c.Scheme == "" {
		return "s3"
	}
	return c.Scheme
}

func (c Config) where() objstore.Location {
	return objstore.Location{Scheme: c.scheme(), Bucket: c.Bucket, Prefix: c.Prefix}
}

// A CredentialsError says that no credentials were found where the AWS tools,
// or SkyPilot for R2, look for them, or that those that were could not be used.
// It is an fs.ErrPermission.
type CredentialsError struct {
	Bucket objstore.Location
	Err    error // of the last place that was looked at
}

// Error names the bucket. That this is no EC2 machine, the usual last word of
// the search, is left out.
func (e *CredentialsError) Error() string {
	if e.Bucket.Scheme == "r2" {
		return e.Bucket.URL() + ": R2 credentials: " + e.Err.Error()
	}
	if strings.Contains(e.Err.Error(), "IMDS") {
		return e.Bucket.URL() + ": no AWS credentials found"
	}
	return e.Bucket.URL() + ": AWS credentials: " + e.Err.Error()
}

// Unwrap returns the cause and fs.ErrPermission.
func (e *CredentialsError) Unwrap() []error { return []error{fs.ErrPermission, e.Err} }
