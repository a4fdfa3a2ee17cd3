package gcs

import (
	"context"
	"errors"
	"iter"
	"strings"

	"cloud.google.com/go/storage"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/iterator"

	"github.com/skyagent/skyagent/objstore"
)

// List implements objstore.Store, 1,000 keys a request.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		if after >= prefix && !strings.HasPrefix(after, prefix) {
			return // behind the last key that could match
		}
		objects := s.bucket.Objects(ctx, s.query(prefix, after))
		for {
			attrs, err := objects.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(objstore.Info{}, s.fail(ctx, objstore.OpList, prefix, err))
				return
			}
			key := strings.TrimPrefix(attrs.Name, s.prefix)
			if key <= after {
				continue // "" is the marker of the prefix itself
			}
			if !yield(describe(key, attrs), nil) {
				return
			}
		}
	}
}

// query asks for what an Info holds, and no more.
func (s *Store) query(prefix, after string) *storage.Query {
	q := &storage.Query{Prefix: s.prefix + prefix, Projection: storage.ProjectionNoACL}
	if after > prefix {
		q.StartOffset = s.prefix + after // which is included
	}
	// These names cannot fail: they are the SDK's own.
	q.SetAttrSelection([]string{"Name", "Size", "Generation", "Updated", "Metadata"})
	return q
}

func describe(key string, a *storage.ObjectAttrs) objstore.Info {
	return objstore.Info{Key: key, Size: a.Size, Rev: rev(a.Generation), ModTime: a.Updated, Meta: metadata(a.Metadata)}
}

// metadata is never nil, which would mean that it was not asked for.
func metadata(m map[string]string) map[string]string {
	lower := make(map[string]string, len(m))
	for k, v := range m {
		lower[strings.ToLower(k)] = v
	}
	return lower
}

const (
	deletesAtOnce = 16
	deleteTries   = 10
)

// Delete implements objstore.Store. There is no request for many keys.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for _, key := range keys {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return s.fail(ctx, objstore.OpDelete, key, s.delete(gctx, key)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.fail(ctx, objstore.OpDelete, "", ctx.Err())
}

// delete removes the generation that it finds, so that a request which arrives
// late, or twice, cannot remove what was written since.
func (s *Store) delete(ctx context.Context, key string) error {
	for range deleteTries {
		info, err := s.head(ctx, key, "")
		if err != nil {
			if missing(err) {
				err = nil
			}
			return err
		}
		o, err := s.at(key, info.Rev)
		if err != nil {
			return err
		}
		err = unmatched(o.Delete(ctx), info.Rev)
		if !held(err) {
			continue // it is another object now, or none
		}
		return err
	}
	return errors.New("it is written faster than it can be deleted")
}
