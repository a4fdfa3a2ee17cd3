package syncer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A logBucket lets a manifest.Log live in a store.
type logBucket struct{ store objstore.Store }

// OpenLog returns the log of source in store.
func OpenLog(store objstore.Store, source string) *manifest.Log {
	return manifest.NewLog(logBucket{store}, source)
}

// Sources lists the sources that have a log in store, by one request for each.
func Sources(ctx context.Context, store objstore.Store) ([]string, error) {
	const prefix = manifest.Reserved + "/sources/"
	next := func(after string) (string, error) {
		for info, err := range store.List(ctx, prefix, after) {
			name, _, _ := strings.Cut(strings.TrimPrefix(info.Key, prefix), "/")
			return name, err
		}
		return "", nil
	}
	var names []string
	name, err := next("")
	for name != "" && err == nil {
		names = append(names, name)
		name, err = next(prefix + name + "0") // '0' follows '/'
	}
	return names, err
}

func (b logBucket) Read(ctx context.Context, key string) ([]byte, string, error) {
	body, info, err := b.store.Get(ctx, key, 0, -1, objstore.Cond{})
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return data, string(info.Rev), err
}

func (b logBucket) Create(ctx context.Context, key string, data []byte) (string, error) {
	info, err := b.store.Put(ctx, key, bytes.NewReader(data), int64(len(data)),
		objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	if errors.Is(err, objstore.ErrPrecondition) {
		return "", fmt.Errorf("%s: %w", key, fs.ErrExist)
	}
	return string(info.Rev), err
}

func (b logBucket) List(ctx context.Context, prefix, after string) iter.Seq2[manifest.Object, error] {
	return func(yield func(manifest.Object, error) bool) {
		for info, err := range b.store.List(ctx, prefix, after) {
			if !yield(manifest.Object{Key: info.Key, Rev: string(info.Rev), ModTime: info.ModTime}, err) {
				return
			}
		}
	}
}

func (b logBucket) Remove(ctx context.Context, keys ...string) error {
	return b.store.Delete(ctx, keys...)
}

// writerKey is where the voucher of writer id stands.
func writerKey(id string) string { return manifest.Reserved + "/writers/" + id }

// PublishWriter stores a voucher for writer id, so that workers can check what
// it announces, and returns its seal. One that is there stays.
func PublishWriter(ctx context.Context, store objstore.Store, id string, public []byte) (seal string, err error) {
	v := manifest.NewVoucher(public)
	b := v.Encode()
	_, err = store.Put(ctx, writerKey(id), bytes.NewReader(b), int64(len(b)),
		objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	if errors.Is(err, objstore.ErrPrecondition) {
		b, err = Voucher(ctx, store, id)
	}
	if err != nil {
		return "", fmt.Errorf("publish key of writer %s: %w", id, err)
	}
	return manifest.DecodeVoucher(b).Seal, nil
}

// maxVoucher bounds what is read as a voucher, in bytes.
const maxVoucher = 1 << 10

// Voucher returns the encoded voucher of writer id; fs.ErrNotExist says that
// nobody who can write the bucket vouches for it.
func Voucher(ctx context.Context, store objstore.Store, id string) ([]byte, error) {
	body, _, err := store.Get(ctx, writerKey(id), 0, -1, objstore.Cond{})
	if err != nil {
		return nil, fmt.Errorf("key of writer %s: %w", id, err)
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, maxVoucher))
}

// randomID returns 26 letters and digits that nobody else will draw.
func randomID() string { return rand.Text() }
