package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/storage"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/pace"
	"github.com/skyagent/skyagent/objstore/patience"
)

// Config says which bucket, and how to reach it. Credentials are Google's
// application default ones.
type Config struct {
	Bucket       string
	Prefix       string        // of all keys, without slashes around it
	Endpoint     string        // URL of the server; empty is STORAGE_EMULATOR_HOST, or Google's
	Anonymous    bool          // sign nothing: public buckets
	Project      string        // of a bucket that is made; empty is GOOGLE_CLOUD_PROJECT, or the credentials'
	Location     string        // of a bucket that is made; empty is Google's default, US
	StorageClass string        // of objects that are written; empty is the bucket's
	KMSKey       string        // name of the key that encrypts objects that are written; empty is the bucket's
	UserProject  string        // pays for the requests: buckets whose requester pays
	Pace         *pace.Pacer   // of all requests; nil is one of the Store's own, without limits
	Stall        time.Duration // longest time without a byte of a body; 0 means 30 s
	Answer       time.Duration // longest time from a request's end to its answer's beginning; 0 means 2 min
}

const (
	google             = "https://storage.googleapis.com"
	idleConns          = 256 // that are kept to one server
	credentialsTimeout = 10 * time.Second
	apiPath            = "/storage/v1/"
)

// endpoint returns the server's URL, and whether it is asked without
// credentials: an emulator knows none, and a token must not travel in clear.
func (c Config) endpoint() (server string, plain bool) {
	emulator := strings.TrimSuffix(os.Getenv("STORAGE_EMULATOR_HOST"), "/")
	switch {
	case c.Endpoint != "":
		server = strings.TrimSuffix(c.Endpoint, "/")
		return server, c.Anonymous || strings.HasPrefix(server, "http://")
	case emulator == "":
		return google, c.Anonymous
	case strings.Contains(emulator, "://"):
		return emulator, true
	}
	return "http://" + emulator, true
}

// A client is the way to the server: the SDK's for JSON, and beneath it the one
// that signs, which reads are sent by directly.
type client struct {
	*storage.Client
	http  *http.Client
	url   string            // of the server
	creds *auth.Credentials // nil when nothing is signed
}

// newClient returns a client that asks once.
func newClient(ctx context.Context, c Config) (*client, error) {
	server, plain := c.endpoint()
	cl := &client{url: server, http: &http.Client{Transport: c.transport()}}
	if !plain {
		var err error
		if cl.creds, err = c.findCredentials(ctx); err != nil {
			return nil, err
		}
		signing, err := htransport.NewTransport(ctx, cl.http.Transport, option.WithAuthCredentials(cl.creds), option.WithTelemetryDisabled())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.where().URL(), err)
		}
		cl.http.Transport = signing
	}
	sdk, err := storage.NewClient(ctx, option.WithHTTPClient(cl.http), option.WithEndpoint(server+apiPath),
		option.WithoutAuthentication()) // the HTTP client does that
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.where().URL(), err)
	}
	sdk.SetRetry(storage.WithPolicy(storage.RetryNever))
	cl.Client = sdk
	return cl, nil
}

func (c Config) transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	// The default keeps 2: with more in flight every other request would open
	// a connection and close it again.
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idleConns
	t.IdleConnTimeout = 90 * time.Second
	t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
	t.DisableCompression = true // an object's bytes are what was written
	// HTTP/2 would put all requests on one connection.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if c.Pace == nil {
		c.Pace = pace.New(pace.Limits{})
	}
	// Time runs while a request is under way, not while it waits for its turn.
	return c.Pace.Transport(patience.New(c.Stall, c.Answer).Transport(t))
}

// findCredentials makes missing ones, and those that Google refuses, an error
// at once, with words for it. That nobody answered is left to the first
// request, which is tried again.
func (c Config) findCredentials(ctx context.Context) (*auth.Credentials, error) {
	creds, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{storage.ScopeFullControl}})
	if err != nil {
		return nil, &CredentialsError{Bucket: c.where(), Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	if _, err = creds.Token(ctx); err != nil && !unanswered(err) {
		return nil, &CredentialsError{Bucket: c.where(), Err: err}
	}
	return creds, nil
}

// unanswered reports whether the search for a token may end better later.
func unanswered(err error) bool {
	var network *url.Error
	var refused *auth.Error
	return errors.As(err, &network) || errors.As(err, &refused) && refused.Temporary() || errors.Is(err, context.DeadlineExceeded)
}

// project returns the project that a new bucket belongs to.
func (c *client) project(ctx context.Context, configured string) string {
	if configured != "" {
		return configured
	}
	if p := os.Getenv("GOOGLE_CLOUD_PROJECT"); p != "" || c.creds == nil {
		return p
	}
	p, err := c.creds.ProjectID(ctx)
	if err != nil {
		return "" // as when they name none
	}
	return p
}

func (c Config) where() objstore.Location {
	return objstore.Location{Scheme: "gs", Bucket: c.Bucket, Prefix: c.Prefix}
}
