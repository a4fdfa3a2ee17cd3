package open

import (
	"context"
	"fmt"
	"strings"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/pace"
	"github.com/skyagent/skyagent/objstore/s3"
)

// s3Params are the parameters of s3:// and r2:// URLs. What a server has not is
// s3's to refuse, with a word about it.
var s3Params = map[string][]string{
	"s3": {"endpoint", "region", "profile", "anonymous", "path-style", "sse", "sse-kms-key-id", "storage-class", "tags", "requester-pays"},
	"r2": {"endpoint", "account", "jurisdiction", "profile", "path-style", "sse", "sse-kms-key-id", "storage-class", "tags", "requester-pays"},
}

func openS3(ctx context.Context, at objstore.Location, opts Options) (objstore.Store, error) {
	if err := known(at, s3Params[at.Scheme]...); err != nil {
		return nil, err
	}
	c := s3.Config{Scheme: at.Scheme, Bucket: at.Bucket, Prefix: at.Prefix, Pace: pace.New(opts.Limits), Uploads: opts.Uploads,
		Endpoint: text(at, "endpoint", opts.Endpoint), Region: text(at, "region", opts.Region), Profile: text(at, "profile", opts.Profile),
		Account: text(at, "account", ""), Jurisdiction: text(at, "jurisdiction", "")}
	if err := checkEndpoint(at, c.Endpoint); err != nil {
		return nil, err
	}
	if err := s3Flags(&c, at, opts); err != nil {
		return nil, err
	}
	var err error
	if c.Options.Tags, err = tags(at); err != nil {
		return nil, err
	}
	c.SSE, c.SSEKMSKeyID, c.StorageClass = text(at, "sse", ""), text(at, "sse-kms-key-id", ""), text(at, "storage-class", "")
	return s3.New(ctx, c)
}

// s3Flags reads what is on or off.
func s3Flags(c *s3.Config, at objstore.Location, opts Options) (err error) {
	if c.Anonymous, err = flag(at, "anonymous", opts.Anonymous); err != nil {
		return err
	}
	if c.RequesterPays, err = flag(at, "requester-pays", false); err != nil {
		return err
	}
	if at.Params.Has("path-style") {
		on, err := flag(at, "path-style", false)
		c.PathStyle = &on
		return err
	}
	return nil
}

// tags reads K:V,K:V. A value may be empty, and may hold colons.
func tags(at objstore.Location) (map[string]string, error) {
	if !at.Params.Has("tags") {
		return nil, nil
	}
	all := make(map[string]string)
	for pair := range strings.SplitSeq(at.Params.Get("tags"), ",") {
		k, v, ok := strings.Cut(pair, ":")
		if _, twice := all[k]; !ok || k == "" || twice {
			return nil, fmt.Errorf("bucket URL %q: tags are KEY:VALUE,KEY:VALUE, and %q is not", at, pair)
		}
		all[k] = v
	}
	return all, nil
}
