package open

import (
	"context"
	"fmt"
	"net/url"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/pace"
)

func openGCS(ctx context.Context, at objstore.Location, opts Options) (objstore.Store, error) {
	if err := known(at, "endpoint", "anonymous", "project", "location", "storage-class", "kms-key", "user-project"); err != nil {
		return nil, err
	}
	anonymous, err := flag(at, "anonymous", opts.Anonymous)
	if err != nil {
		return nil, err
	}
	c := gcs.Config{Bucket: at.Bucket, Prefix: at.Prefix, Anonymous: anonymous, Pace: pace.New(opts.Limits),
		Endpoint: text(at, "endpoint", opts.Endpoint), Location: text(at, "location", opts.Region),
		Project: text(at, "project", ""), StorageClass: text(at, "storage-class", ""),
		KMSKey: text(at, "kms-key", ""), UserProject: text(at, "user-project", "")}
	if err := checkEndpoint(at, c.Endpoint); err != nil {
		return nil, err
	}
	return gcs.New(ctx, c)
}

// checkEndpoint does not repeat the endpoint: it may hold a password.
func checkEndpoint(at objstore.Location, endpoint string) error {
	u, err := url.Parse(endpoint)
	if endpoint != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("bucket URL %q: endpoint is no http:// or https:// URL of a server", at.URL())
	}
	return nil
}
