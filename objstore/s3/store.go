package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/skyagent/skyagent/objstore"
)

// A Store is a bucket, or the part of one below a prefix.
type Store struct {
	client  *s3.Client
	wire    *wire // for what moves objects; client does the rest
	where   objstore.Location
	bucket  *string
	prefix  string // "" or ending in a slash
	uploads *uploads
	caps    objstore.Caps
	quirks  quirks
	copies  int64 // bytes; the longest range that one part copies
}

var _ objstore.Store = (*Store)(nil)

// New returns the Store for a bucket, which need not exist. Missing
// credentials are a *CredentialsError; wrong ones show in the first request.
func New(ctx context.Context, c Config) (*Store, error) {
	if c.Bucket == "" {
		return nil, errors.New("s3: no bucket")
	}
	client, err := newClient(ctx, c)
	if err != nil {
		return nil, err
	}
	extra := c.Options.extra()
	wire, err := newWire(ctx, client, c.Bucket, extra)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.where().URL(), err)
	}
	q := quirksOf(c.scheme(), aws.ToString(client.Options().BaseEndpoint))
	s := &Store{uploads: &uploads{dir: c.Uploads, active: make(map[string]bool)}, client: client, wire: wire, where: c.where(), bucket: aws.String(c.Bucket), copies: 1 << 30, quirks: q}
	if c.Prefix != "" {
		s.prefix = strings.Trim(c.Prefix, "/") + "/"
	}
	s.caps = objstore.Caps{RangeCopy: true, CondCopy: q.condCopy, UniformParts: q.uniformParts,
		MinPart: 5 << 20, MaxPart: q.maxPart, MaxParts: 10_000}
	return s, nil
}

// Where returns the bucket and the prefix.
func (s *Store) Where() objstore.Location { return s.where }

// Caps implements objstore.Store.
func (s *Store) Caps() objstore.Caps { return s.caps }

// maxKey is the longest name in a bucket, in bytes.
const maxKey = 1024

// check refuses what is no key. An object without a name would be the bucket.
func (s *Store) check(key string) error {
	if n := len(s.prefix) + len(key); key == "" || n > maxKey {
		return fmt.Errorf("key of %d bytes: %w", n, fs.ErrInvalid)
	}
	return nil
}

// key returns the name in the bucket of a key of this Store.
func (s *Store) key(key string) *string { return aws.String(s.prefix + key) }

// CreateBucket implements objstore.Store. It asks first: in us-east-1 making a
// bucket that is ours already is no error.
func (s *Store) CreateBucket(ctx context.Context) error {
	if there, err := s.bucketExists(ctx); err != nil || there {
		if err == nil {
			err = fs.ErrExist
		}
		return s.fail(ctx, objstore.OpCreateBucket, "", err)
	}
	in := &s3.CreateBucketInput{Bucket: s.bucket}
	if region := s.client.Options().Region; region != defaultRegion {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
	}
	_, err := s.client.CreateBucket(ctx, in)
	return s.fail(ctx, objstore.OpCreateBucket, "", err)
}

// BucketExists implements objstore.Store.
func (s *Store) BucketExists(ctx context.Context) (bool, error) {
	there, err := s.bucketExists(ctx)
	return there, s.fail(ctx, objstore.OpBucketExists, "", err)
}

// bucketExists lists a key: the answer to a HEAD has no code, and a 404 in it
// may as well be about the access key (versitygw).
func (s *Store) bucketExists(ctx context.Context) (bool, error) {
	_, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: s.bucket, Prefix: &s.prefix, MaxKeys: aws.Int32(1)})
	if hasCode(err, "NoSuchBucket") {
		return false, nil
	}
	return err == nil, err
}

// LabelBucket tags the bucket, in place of the tags that it has.
func (s *Store) LabelBucket(ctx context.Context, labels map[string]string) error {
	var tags []types.Tag
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(labels[key])})
	}
	_, err := s.client.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: s.bucket, Tagging: &types.Tagging{TagSet: tags}})
	return s.fail(ctx, objstore.OpCreateBucket, "", err)
}

// DeleteBucket implements objstore.Store. The prefix does not matter: the
// whole bucket must be empty.
func (s *Store) DeleteBucket(ctx context.Context) error {
	_, err := s.client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: s.bucket})
	return s.fail(ctx, objstore.OpDeleteBucket, "", err)
}
