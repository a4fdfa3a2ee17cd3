package gcs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"github.com/skyagent/skyagent/objstore"
)

// A Store is a bucket, or the part of one below a prefix.
type Store struct {
	config Config
	client *client
	where  objstore.Location
	bucket *storage.BucketHandle
	prefix string // "" or ending in a slash
}

var _ objstore.Store = (*Store)(nil)

// New returns the Store for a bucket, which need not exist. Missing
// credentials are a *CredentialsError; those without rights show in the first
// request.
func New(ctx context.Context, c Config) (*Store, error) {
	if c.Bucket == "" {
		return nil, errors.New("gcs: no bucket")
	}
	cl, err := newClient(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, client: cl, where: c.where(), bucket: cl.Bucket(c.Bucket)}
	if c.UserProject != "" {
		s.bucket = s.bucket.UserProject(c.UserProject)
	}
	if c.Prefix != "" {
		s.prefix = strings.Trim(c.Prefix, "/") + "/"
	}
	return s, nil
}

// Where returns the bucket and the prefix.
func (s *Store) Where() objstore.Location { return s.where }

// Caps implements objstore.Store.
func (s *Store) Caps() objstore.Caps {
	return objstore.Caps{
		// The SDK cannot say which key a composed object is encrypted with.
		Append:   s.config.KMSKey == "",
		CondCopy: true, ListMeta: true,
		MinPart: 1, MaxPart: 5 << 40, MaxParts: math.MaxInt32, // parts become one stream
	}
}

// object returns the handle of a key of this Store.
func (s *Store) object(key string) (*storage.ObjectHandle, error) {
	name := s.prefix + key
	if key == "" || name == "." || name == ".." || len(name) > 1024 || !utf8.ValidString(key) {
		return nil, theirs{fmt.Errorf("no name for an object: %w", fs.ErrInvalid)}
	}
	return s.bucket.Object(name), nil
}

// at returns the handle of a key at a revision.
func (s *Store) at(key string, rev objstore.Rev) (*storage.ObjectHandle, error) {
	return s.under(key, objstore.Cond{If: rev})
}

// under returns the handle of a key under a condition, which may be none.
func (s *Store) under(key string, c objstore.Cond) (*storage.ObjectHandle, error) {
	o, err := s.object(key)
	switch {
	case err != nil:
		return nil, err
	case c.Absent:
		return o.If(storage.Conditions{DoesNotExist: true}), nil
	case c.If == "":
		return o, nil
	}
	g, err := strconv.ParseInt(string(c.If), 10, 64)
	if err != nil || g <= 0 {
		return nil, objstore.ErrPrecondition // no object was ever at it
	}
	return o.If(storage.Conditions{GenerationMatch: g}), nil
}

func rev(generation int64) objstore.Rev { return objstore.Rev(strconv.FormatInt(generation, 10)) }

// CreateBucket implements objstore.Store. Access is by IAM alone, as Google
// advises.
func (s *Store) CreateBucket(ctx context.Context) error {
	return s.fail(ctx, objstore.OpCreateBucket, "", s.createBucket(ctx))
}

func (s *Store) createBucket(ctx context.Context) error {
	project := s.client.project(ctx, s.config.Project)
	if project == "" && s.client.creds != nil {
		return theirs{fmt.Errorf("no project for the bucket; set GOOGLE_CLOUD_PROJECT: %w", fs.ErrInvalid)}
	}
	err := s.bucket.Create(ctx, project, &storage.BucketAttrs{Location: s.config.Location,
		UniformBucketLevelAccess: storage.UniformBucketLevelAccess{Enabled: true}})
	var answer *googleapi.Error
	switch {
	case !errors.As(err, &answer) || answer.Code != http.StatusConflict:
		return err
	case strings.Contains(answer.Message, "is not available"): // it is somebody else's
		return fs.ErrPermission
	}
	return fs.ErrExist
}

// BucketExists implements objstore.Store.
func (s *Store) BucketExists(ctx context.Context) (bool, error) {
	there, err := s.bucketExists(ctx)
	return there, s.fail(ctx, objstore.OpBucketExists, "", err)
}

// bucketExists lists an object: whoever may read and write objects need not
// have the right to read the bucket's attributes.
func (s *Store) bucketExists(ctx context.Context) (bool, error) {
	objects := s.bucket.Objects(ctx, s.query("", ""))
	objects.PageInfo().MaxSize = 1
	_, err := objects.Next()
	switch {
	case errors.Is(err, storage.ErrBucketNotExist):
		return false, nil
	case errors.Is(err, iterator.Done):
		return true, nil
	}
	return err == nil, err
}

// LabelBucket adds labels to the bucket.
func (s *Store) LabelBucket(ctx context.Context, labels map[string]string) error {
	var change storage.BucketAttrsToUpdate
	for key, value := range labels {
		change.SetLabel(key, value)
	}
	_, err := s.bucket.Update(ctx, change)
	return s.fail(ctx, objstore.OpCreateBucket, "", err)
}

// DeleteBucket implements objstore.Store. The prefix does not matter: the
// whole bucket must be empty.
func (s *Store) DeleteBucket(ctx context.Context) error {
	err := s.bucket.Delete(ctx)
	if status(err) == http.StatusConflict {
		err = objstore.ErrNotEmpty
	}
	return s.fail(ctx, objstore.OpDeleteBucket, "", err)
}
