package file

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/skyagent/skyagent/objstore"
)

// Delete implements objstore.Store. It stops at the first key that cannot be
// removed. Directories that become empty go with their last object.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	b, err := s.bucket(ctx)
	if err != nil || len(keys) == 0 {
		return s.fail(objstore.OpDelete, "", err)
	}
	if err := b.start(); err != nil {
		return s.fail(objstore.OpDelete, "", err)
	}
	dirs := map[string]bool{}
	for _, key := range keys {
		if err := b.remove(ctx, key, dirs); err != nil {
			return s.fail(objstore.OpDelete, key, err)
		}
	}
	return s.fail(objstore.OpDelete, "", b.syncDirs(slices.Collect(maps.Keys(dirs))...))
}

// remove deletes one object, and adds the directories it stood in to dirs.
func (b *bucket) remove(ctx context.Context, key string, dirs map[string]bool) error {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return err
	}
	var gone string
	err := b.locked(key, func() error {
		path, fi, err := b.find(key)
		if err != nil {
			return err
		}
		if err := b.root.Remove(path); err != nil {
			return err
		}
		gone = path
		b.dropSidecar(fi, nil)
		return nil
	})
	if gone != "" {
		dirs[b.prune(gone)] = true
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// prune removes the directories above path that are empty and returns the
// first that stays. The system removes no directory that a Put has just used,
// and a Put makes again what we removed before it came.
func (b *bucket) prune(path string) string {
	for dir := parent(path); dir != "." && dir != hidden; dir = parent(dir) {
		if b.root.Remove(dir) != nil {
			return dir
		}
	}
	return "."
}
