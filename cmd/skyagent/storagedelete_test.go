package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
)

// A busyStore is one that somebody writes to while it is deleted.
type busyStore struct {
	objstore.Store
	writes int // still to come
}

func (b *busyStore) DeleteBucket(ctx context.Context) error {
	if b.writes > 0 {
		b.writes--
		if _, err := b.Put(ctx, "late", bytes.NewReader(nil), 0, objstore.PutOptions{}); err != nil {
			return err
		}
	}
	return b.Store.DeleteBucket(ctx)
}

// What others write meanwhile is deleted, too. Should they not stop, the bucket
// stays known for ours, so that the next deletion goes on.
func TestDeleteWhileOthersWrite(t *testing.T) {
	for _, tc := range []struct {
		writes int
		want   error
	}{{0, nil}, {1, nil}, {deleteTries - 1, nil}, {deleteTries, objstore.ErrNotEmpty}} {
		dir := filepath.ToSlash(filepath.Join(t.TempDir(), "bucket"))
		store, err := file.New(file.Config{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CreateBucket(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := &program{ui: newUI(io.Discard, io.Discard)}
		at := target{name: "bucket", location: objstore.Location{Scheme: "file", Bucket: dir}}
		if err := p.markMade(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		_, err = p.emptyAndDelete(t.Context(), at, &busyStore{store, tc.writes})
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%d writes: %v, want %v", tc.writes, err, tc.want)
		}
		there, err := store.BucketExists(t.Context())
		if err != nil || there != (tc.want != nil) {
			t.Errorf("%d writes: the bucket is there: %v, %v", tc.writes, there, err)
		}
		if made, err := isMade(t.Context(), store); there && (err != nil || !made) {
			t.Errorf("%d writes: no longer known for ours, %v", tc.writes, err)
		}
	}
}
