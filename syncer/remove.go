package syncer

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// removeLooks is how many objects are looked at at a time before they go.
const removeLooks = 16

// remove deletes the objects of files, which no longer belong there: their
// paths are committed as gone, or were never committed. They stay busy until
// that is done.
func (s *Source) remove(ctx context.Context, files []manifest.File) {
	if len(files) == 0 {
		return
	}
	for _, f := range files {
		s.busy[f.Path] = removing
	}
	s.side.Go(func() { s.outcomes <- s.removeObjects(ctx, files) })
}

// removeObjects deletes the objects of files. While the store refuses, the
// paths stay busy: nothing else would find the objects.
func (s *Source) removeObjects(ctx context.Context, files []manifest.File) outcome {
	o := outcome{paths: make([]manifest.Path, len(files))}
	for i, f := range files {
		o.paths[i] = f.Path
	}
	for wait := laterMin; ; wait = min(2*wait, laterMax) {
		o.err = s.tryRemove(ctx, files)
		if o.err == nil || s.once || pause(ctx, jitter(wait)) != nil {
			return o
		}
		s.log.Warn("objects of deleted files not removed, trying again", "count", len(files), "err", o.err)
	}
}

// tryRemove deletes those objects that are still ours. Few stores can delete
// under a condition, so each is looked at first: what somebody else wrote over
// ours is not ours to delete.
func (s *Source) tryRemove(ctx context.Context, files []manifest.File) error {
	ours := make([]bool, len(files))
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(removeLooks)
	for i, f := range files {
		group.Go(func() (err error) {
			ours[i], err = s.stillOurs(looking, f)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var keys []string
	for i, f := range files {
		if ours[i] {
			keys = append(keys, string(f.Path))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	return s.opt.Store.Delete(ctx, keys...)
}

// stillOurs reports whether the object of f is there as this source wrote it.
func (s *Source) stillOurs(ctx context.Context, f manifest.File) (bool, error) {
	info, err := s.opt.Store.Head(ctx, string(f.Path))
	switch {
	case errors.Is(err, objstore.ErrNoBucket):
		return false, err
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case string(info.Rev) == f.Rev || s.wrote(info):
		return true, nil
	}
	s.log.Warn("somebody else wrote over a deleted file's object; it stays", "path", f.Path)
	return false, nil
}
