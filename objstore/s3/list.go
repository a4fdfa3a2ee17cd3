package s3

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/skyagent/skyagent/objstore"
)

// List implements objstore.Store, 1,000 keys a request.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: s.bucket, Prefix: s.key(prefix), EncodingType: types.EncodingTypeUrl}
		switch {
		case after >= prefix && !strings.HasPrefix(after, prefix):
			return // behind the last key that could match
		case after > prefix:
			in.StartAfter = s.key(after)
		}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			if err == nil && out.IsTruncated == nil {
				err = errOdd // nothing must not pass for an empty bucket
			}
			if hasCode(err, "XMinioInvalidObjectName") {
				return // MinIO holds no "a//b", and will not look for it
			}
			if err != nil {
				yield(objstore.Info{}, s.fail(ctx, objstore.OpList, prefix, err))
				return
			}
			if !s.page(ctx, out, prefix, after, yield) || !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

// page yields one answer, and reports whether more is wanted.
func (s *Store) page(ctx context.Context, out *s3.ListObjectsV2Output, prefix, after string, yield func(objstore.Info, error) bool) bool {
	for _, o := range out.Contents {
		full, err := decode(out.EncodingType, aws.ToString(o.Key))
		if err != nil {
			yield(objstore.Info{}, s.fail(ctx, objstore.OpList, prefix, err))
			return false
		}
		key := strings.TrimPrefix(full, s.prefix)
		if key <= after {
			continue // "" is the marker of the prefix itself
		}
		info := objstore.Info{Key: key, Size: aws.ToInt64(o.Size), Rev: rev(o.ETag), ModTime: aws.ToTime(o.LastModified)}
		if !yield(info, nil) {
			return false
		}
	}
	return true
}

// decode reads a key as the server encoded it. Control characters cannot stand
// in XML, so we ask for the encoding of queries; versitygw does not know it.
func decode(encoding types.EncodingType, key string) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return key, nil
	}
	return url.QueryUnescape(key)
}

// batch is how many keys one request deletes at most.
const batch = 1000

// Delete implements objstore.Store, by batches.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for chunk := range slices.Chunk(keys, batch) {
		if err := s.deleteSome(ctx, chunk); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return s.fail(ctx, objstore.OpDelete, "", err)
	}
	return nil
}

func (s *Store) deleteSome(ctx context.Context, keys []string) error {
	var ids []types.ObjectIdentifier
	for _, key := range keys {
		if err := s.check(key); err != nil {
			return s.fail(ctx, objstore.OpDelete, key, err)
		}
		if len(keys) > 1 && !hasControl(key) {
			ids = append(ids, types.ObjectIdentifier{Key: s.key(key)})
			continue
		}
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket, Key: s.key(key)})
		if err != nil && !hasCode(err, "NoSuchKey") {
			return s.fail(ctx, objstore.OpDelete, key, err)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: s.bucket,
		Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
	if err != nil {
		return s.fail(ctx, objstore.OpDelete, "", err)
	}
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			return s.refused(e)
		}
	}
	return nil
}

// refused names what one key of a batch met; there is no status for it.
func (s *Store) refused(e types.Error) error {
	code := aws.ToString(e.Code)
	status := 500
	if code == "AccessDenied" {
		status = 403
	}
	err := detailed(kindOf(code, status), code, aws.ToString(e.Message))
	if err == nil {
		err = fmt.Errorf("server says %s: %s", code, aws.ToString(e.Message))
	}
	return &objstore.Error{Op: objstore.OpDelete, Bucket: s.where, Key: strings.TrimPrefix(aws.ToString(e.Key), s.prefix), Err: err}
}

// hasControl reports whether key cannot stand in the XML of a batch.
func hasControl(key string) bool {
	return strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0xfffe || r == 0xffff })
}
