package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/skyagent/skyagent/objstore"
)

// A Store is a bucket in a directory.
type Store struct {
	path    string
	noXattr bool

	mu   sync.Mutex // guards open
	open *bucket    // nil until the directory is first needed, and once it is deleted
}

var _ objstore.Store = (*Store)(nil)

// Config says where a bucket is.
type Config struct {
	Path    string // absolute; it need not exist
	NoXattr bool   // keep stamps in sidecars even where extended attributes work
}

// New returns the Store over a directory. It touches nothing: a directory that
// is not there is a bucket that does not exist.
func New(c Config) (*Store, error) {
	if !filepath.IsAbs(c.Path) {
		return nil, fmt.Errorf("file bucket %q: path is not absolute", c.Path)
	}
	return &Store{path: filepath.Clean(c.Path), noXattr: c.NoXattr}, nil
}

// Caps implements objstore.Store.
func (s *Store) Caps() objstore.Caps {
	return objstore.Caps{RangeCopy: true, CondCopy: true, ListMeta: true,
		MinPart: 1, MaxPart: math.MaxInt64, MaxParts: math.MaxInt32}
}

// fail names err once: the operation, the bucket, the key.
func (s *Store) fail(op objstore.Op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &objstore.Error{Op: op, Bucket: objstore.Location{Scheme: "file", Bucket: s.path}, Key: key, Err: named(err)}
}

// theirs is an error of the caller's own, which is returned as it is.
type theirs struct{ error }

// named takes away the names of files, which repeat the key or are ours, and
// turns what the system says into our names.
func named(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	var own theirs
	switch {
	case errors.As(err, &own):
		return own.error
	case errors.Is(err, objstore.ErrNoBucket), errors.Is(err, objstore.ErrPrecondition):
		return err
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist), errors.As(err, &link) && errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// bucket returns the open directory.
func (s *Store) bucket(ctx context.Context) (*bucket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return s.open, nil
	}
	root, err := os.OpenRoot(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, objstore.ErrNoBucket
	}
	if err != nil {
		return nil, err
	}
	s.open = &bucket{root: root, noXattr: s.noXattr}
	return s.open, nil
}

// forget closes the directory, so that the next use opens the path again.
func (s *Store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.open.close()
		s.open = nil
	}
}

// CreateBucket makes the directory, and those above it.
func (s *Store) CreateBucket(ctx context.Context) error {
	return s.fail(objstore.OpCreateBucket, "", s.createBucket(ctx))
}

func (s *Store) createBucket(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	above := filepath.Dir(s.path)
	if err := os.MkdirAll(above, 0o777); err != nil {
		return err
	}
	if err := os.Mkdir(s.path, 0o777); err != nil {
		return err
	}
	dir, err := os.Open(above)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// BucketExists implements objstore.Store.
func (s *Store) BucketExists(ctx context.Context) (bool, error) {
	err := ctx.Err()
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(s.path); err == nil {
			_, err = dir.Readdirnames(1) // a file is no bucket
			dir.Close()
			if err != nil && !errors.Is(err, syscall.ENOTDIR) {
				err = nil // io.EOF: an empty one
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, s.fail(objstore.OpBucketExists, "", err)
}

// DeleteBucket removes the directory. What is no object in it, even an empty
// directory, was put there by others and counts as not empty.
func (s *Store) DeleteBucket(ctx context.Context) error {
	return s.fail(objstore.OpDeleteBucket, "", s.deleteBucket(ctx))
}

func (s *Store) deleteBucket(ctx context.Context) error {
	b, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	for _, err := range b.list(ctx, "", "") {
		if err != nil {
			return err
		}
		return objstore.ErrNotEmpty
	}
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	if len(entries) > 1 || len(entries) == 1 && entries[0].Name() != hidden {
		return objstore.ErrNotEmpty
	}
	s.forget()
	if err := os.RemoveAll(filepath.Join(s.path, hidden)); err != nil {
		return err
	}
	err = os.Remove(s.path)
	if errors.Is(err, syscall.ENOTEMPTY) {
		return objstore.ErrNotEmpty
	}
	return err
}
