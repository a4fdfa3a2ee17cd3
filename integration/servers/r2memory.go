package servers

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"slices"
	"sync"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// A memory is gofakes3's, with conditions that hold at the moment of a write
// and lists that begin behind keys which are not there.
type memory struct {
	*s3mem.Backend
	mu sync.Mutex // held by writes: a condition and what it is about are one step
}

// PutObject implements gofakes3.Backend; multipart uploads end here too.
func (m *memory) PutObject(ctx context.Context, bucket, key string, meta map[string]string, input io.Reader, size int64) (gofakes3.PutObjectResult, error) {
	body, err := gofakes3.ReadAll(input, size)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if gofakes3.HasWriteConditions(ctx) {
		if err := m.check(ctx, bucket, key); err != nil {
			return gofakes3.PutObjectResult{}, err
		}
	}
	return m.Backend.PutObject(ctx, bucket, key, meta, bytes.NewReader(body), size)
}

func (m *memory) check(ctx context.Context, bucket, key string) error {
	object, err := m.HeadObject(ctx, bucket, key)
	switch {
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey):
		return gofakes3.CheckWriteConditions(ctx, false, "")
	case err != nil:
		return err
	}
	object.Contents.Close()
	return gofakes3.CheckWriteConditions(ctx, true, hex.EncodeToString(object.Hash))
}

// CopyObject implements gofakes3.Backend.
func (m *memory) CopyObject(ctx context.Context, srcBucket, srcKey, dstBucket, dstKey string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Backend.CopyObject(ctx, srcBucket, srcKey, dstBucket, dstKey, meta)
}

// DeleteObject implements gofakes3.Backend.
func (m *memory) DeleteObject(ctx context.Context, bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Backend.DeleteObject(ctx, bucket, key)
}

// DeleteMulti implements gofakes3.Backend.
func (m *memory) DeleteMulti(ctx context.Context, bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Backend.DeleteMulti(ctx, bucket, keys...)
}

// ListBucket implements gofakes3.Backend. s3mem leaves out the key that follows
// a marker which is none itself.
func (m *memory) ListBucket(ctx context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	marker, err := m.HeadObject(ctx, bucket, page.Marker)
	if err == nil {
		marker.Contents.Close()
	}
	if err == nil || page.Marker == "" {
		return m.Backend.ListBucket(ctx, bucket, prefix, page)
	}
	all, err := m.Backend.ListBucket(ctx, bucket, prefix, gofakes3.ListBucketPage{})
	if err != nil {
		return nil, err
	}
	all.Contents = slices.DeleteFunc(all.Contents, func(c *gofakes3.Content) bool { return c.Key <= page.Marker })
	if n := int(page.MaxKeys); n > 0 && len(all.Contents) > n {
		all.Contents, all.IsTruncated = all.Contents[:n], true
		all.NextMarker = all.Contents[n-1].Key
	}
	return all, nil
}
