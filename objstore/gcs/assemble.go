package gcs

import (
	"context"
	"crypto/rand"
	"io"
	"time"

	"cloud.google.com/go/storage"

	"github.com/skyagent/skyagent/objstore"
)

const (
	tmpPrefix    = ".skyagent/tmp/"
	sweepTimeout = 10 * time.Second
)

// Assemble implements objstore.Store. Google copies no ranges: either all
// bytes are new and are uploaded as one stream, or they are appended to the
// whole base.
func (s *Store) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.assemble(ctx, key, base, parts, own(check), opts)
	return info, s.fail(ctx, objstore.OpAssemble, key, err)
}

// own marks check's errors as the caller's.
func own(check func() error) func() error {
	return func() error {
		if check == nil {
			return nil
		}
		if err := check(); err != nil {
			return theirs{err}
		}
		return nil
	}
}

func (s *Store) assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	if err := s.Caps().CheckParts(parts, -1); err != nil {
		return objstore.Info{}, theirs{err}
	}
	if objstore.NeedsBase(parts) {
		return s.append(ctx, key, base, parts, check, opts)
	}
	size, _ := objstore.PartsSize(parts)
	return s.upload(ctx, key, size, opts, func(w io.Writer) error {
		if err := sendParts(w, parts); err != nil {
			return err
		}
		return check()
	})
}

func sendParts(w io.Writer, parts []objstore.Part) error {
	for _, p := range parts {
		if err := send(w, io.NewSectionReader(p.Body, 0, p.Size), p.Size); err != nil {
			return err
		}
	}
	return nil
}

// append makes the object at key longer: parts[0] is all that it is at
// revision base.
func (s *Store) append(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	old, err := s.base(ctx, key, base, opts.Cond)
	if err != nil {
		return objstore.Info{}, err
	}
	if err := s.Caps().CheckParts(parts, old.Size); err != nil {
		return objstore.Info{}, theirs{err}
	}
	if len(parts) == 1 {
		if err := check(); err != nil {
			return objstore.Info{}, err
		}
		opts.Cond = objstore.Cond{If: rev(old.Generation)}
		return s.copy(ctx, key, key, rev(old.Generation), opts)
	}
	tail := tmpPrefix + rand.Text()
	defer s.sweep(ctx, tail) // whatever happened to it
	end, err := s.putTail(ctx, tail, old, parts[1:])
	if err != nil {
		return objstore.Info{}, err
	}
	if err := check(); err != nil {
		return objstore.Info{}, err
	}
	return s.compose(ctx, key, old, end, opts.Meta)
}

// base returns the object at key, if it is at revision base and cond does not
// want another.
func (s *Store) base(ctx context.Context, key string, base objstore.Rev, cond objstore.Cond) (*storage.ObjectAttrs, error) {
	o, err := s.at(key, base)
	if err != nil {
		return nil, err
	}
	attrs, err := o.Attrs(ctx)
	switch {
	case err != nil:
		return nil, unmatched(err, base)
	case cond.Absent, cond.If != "" && cond.If != rev(attrs.Generation):
		return nil, objstore.ErrPrecondition
	}
	return attrs, nil
}

// putTail uploads parts as an object of its own, of the class of the one that
// it will be appended to: others cannot be composed.
func (s *Store) putTail(ctx context.Context, key string, old *storage.ObjectAttrs, parts []objstore.Part) (objstore.Info, error) {
	alike := *s
	alike.config.StorageClass = old.StorageClass
	size, _ := objstore.PartsSize(parts)
	opts := objstore.PutOptions{Cond: objstore.Cond{Absent: true}}
	return alike.upload(ctx, key, size, opts, func(w io.Writer) error { return sendParts(w, parts) })
}

// compose makes old and end the new object at key. All three are pinned:
// whoever replaced one of them since makes it fail.
func (s *Store) compose(ctx context.Context, key string, old *storage.ObjectAttrs, end objstore.Info, meta map[string]string) (objstore.Info, error) {
	base := rev(old.Generation)
	from, err := s.at(key, base)
	if err != nil {
		return objstore.Info{}, err
	}
	more, err := s.at(end.Key, end.Rev)
	if err != nil {
		return objstore.Info{}, err
	}
	c := from.ComposerFrom(from, more)
	c.ContentType, c.Metadata, c.StorageClass = contentType, meta, old.StorageClass
	attrs, err := c.Run(ctx)
	if err != nil {
		return objstore.Info{}, unmatched(err, base)
	}
	return describe(key, attrs), nil
}

// sweep removes the tail, also when ctx has ended.
func (s *Store) sweep(ctx context.Context, tail string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	// Nobody tries this again but us: the append has its outcome already. An
	// error has no consequence but an object that a lifecycle rule sweeps.
	objstore.Retry(s, objstore.Policy{}).Delete(ctx, tail)
}
