package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// madeKey is the object that says of a bucket that skyagent made it. A bucket of
// the same name that others made later has none.
const madeKey = manifest.Reserved + "/made"

// A madeMark is what stands there.
type madeMark struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// whole returns the storage's bucket without a prefix: that is what is made and
// deleted. A file store has no prefixes.
func (t target) whole() target {
	t.location.Prefix = ""
	return t
}

// markMade marks a bucket that was just made.
func (p *program) markMade(ctx context.Context, t target) error {
	store, err := p.openStore(ctx, t.whole(), "", nil)
	if err != nil {
		return err
	}
	b, err := json.Marshal(madeMark{t.name, time.Now().UTC()})
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, madeKey, bytes.NewReader(b), int64(len(b)), objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	if err != nil && !errors.Is(err, objstore.ErrPrecondition) {
		return fmt.Errorf("mark the bucket as ours: %w", err)
	}
	return nil
}

// isMade reports whether a bucket is one that we made: it has the mark, or
// nothing at all.
func isMade(ctx context.Context, store objstore.Store) (bool, error) {
	_, err := store.Head(ctx, madeKey)
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, objstore.ErrNoBucket) {
		return err == nil, err
	}
	for _, err := range store.List(ctx, "", "") {
		return false, err
	}
	return true, nil
}
