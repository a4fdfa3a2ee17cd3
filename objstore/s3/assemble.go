package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/objstore"
)

const (
	partsAtOnce  = 4
	abortTimeout = 10 * time.Second
)

// Assemble implements objstore.Store by a multipart upload. Neighbouring
// ranges of the base become one copy. An upload that is not completed is
// aborted; only a crash leaves one, for the bucket's lifecycle rule.
func (s *Store) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.assemble(ctx, key, base, parts, check, opts)
	return info, s.fail(ctx, objstore.OpAssemble, key, err)
}

func (s *Store) assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	if check == nil {
		check = func() error { return nil }
	}
	if err := s.check(key); err != nil {
		return objstore.Info{}, err
	}
	if err := s.caps.CheckParts(parts, -1); err != nil {
		return objstore.Info{}, err
	}
	if err := s.pin(ctx, key, base, parts, &opts.Cond); err != nil {
		return objstore.Info{}, err
	}
	size, _ := objstore.PartsSize(parts)
	if size == 0 { // a multipart upload has a part
		if err := check(); err != nil {
			return objstore.Info{}, err
		}
		return s.put(ctx, key, bytes.NewReader(nil), 0, opts)
	}
	return s.upload(ctx, upload{name: key, from: key, base: base}, s.coalesce(parts), check, opts)
}

// upload makes the object u.name of parts, as u says but for its id.
func (s *Store) upload(ctx context.Context, u upload, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: s.bucket, Key: s.key(u.name), Metadata: opts.Meta})
	if err == nil && out.UploadId == nil {
		err = errOdd
	}
	if err != nil {
		return objstore.Info{}, err
	}
	u.Store, u.id = s, out.UploadId
	etag, err := u.finish(ctx, parts, check, opts.Cond)
	if err != nil {
		u.abort(ctx)
		return objstore.Info{}, err
	}
	size, _ := objstore.PartsSize(parts)
	return objstore.Info{Key: u.name, Size: size, Rev: rev(etag), ModTime: time.Now(), Meta: opts.Meta}, nil
}

// coalesce joins neighbouring copies as far as one part may reach, and leaves
// parts alone where all must have one size.
func (s *Store) coalesce(parts []objstore.Part) []objstore.Part {
	if s.caps.UniformParts {
		return parts
	}
	var out []objstore.Part
	for _, p := range parts {
		if n := len(out); n > 0 && p.Body == nil && out[n-1].Body == nil &&
			out[n-1].Base+out[n-1].Size == p.Base && out[n-1].Size+p.Size <= s.copies {
			out[n-1].Size += p.Size
			continue
		}
		out = append(out, p)
	}
	return out
}

// pin is for servers that copy a range of whatever is there: it checks that
// this is the base, and asks for the same when the object is made. Who replaces
// the base in between makes the upload fail. Only a base that was replaced and
// put back byte for byte, while its ranges were copied, would not be noticed.
func (s *Store) pin(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, cond *objstore.Cond) error {
	if s.quirks.pinnedParts || !objstore.NeedsBase(parts) {
		return nil
	}
	if cond.Absent || cond.If != "" && cond.If != base {
		return objstore.ErrPrecondition // the object cannot be there and not, or at two revisions
	}
	if _, err := s.head(ctx, key, objstore.Cond{If: base}); err != nil {
		return err
	}
	cond.If = base
	return nil
}

// An upload is one multipart upload.
type upload struct {
	*Store
	name string
	id   *string
	from string       // key of the object that ranges are copied from
	base objstore.Rev // its revision
}

// finish sends all parts, asks check, and makes the object visible.
func (u upload) finish(ctx context.Context, parts []objstore.Part, check func() error, cond objstore.Cond) (etag *string, err error) {
	done := make([]types.CompletedPart, len(parts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i, p := range parts {
		g.Go(func() (err error) {
			done[i], err = u.part(gctx, int32(i+1), p)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := check(); err != nil {
		return nil, err
	}
	out, err := u.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: u.bucket, Key: u.key(u.name), UploadId: u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}, IfMatch: match(cond), IfNoneMatch: absent(cond)})
	if err != nil {
		return nil, unmatched(err, cond)
	}
	if rev(out.ETag) == "" {
		return nil, errOdd
	}
	return out.ETag, nil
}

func (u upload) part(ctx context.Context, number int32, p objstore.Part) (types.CompletedPart, error) {
	var etag *string
	var err error
	switch {
	case p.Body != nil:
		etag, err = u.send(ctx, number, io.NewSectionReader(p.Body, 0, p.Size), p.Size)
	case p.Base+p.Size <= u.caps.MinPart:
		// S3 copies no ranges of objects this small.
		etag, err = u.carry(ctx, number, p)
	default:
		etag, err = u.copyPart(ctx, number, p)
	}
	return types.CompletedPart{PartNumber: aws.Int32(number), ETag: aws.String(string(rev(etag)))}, err
}

func (u upload) send(ctx context.Context, number int32, body io.ReadSeeker, size int64) (*string, error) {
	query := url.Values{"partNumber": {strconv.Itoa(int(number))}, "uploadId": {*u.id}}
	return u.Store.send(ctx, request{key: *u.key(u.name), query: query.Encode(), header: make(http.Header, 8)}, body, size)
}

func (u upload) copyPart(ctx context.Context, number int32, p objstore.Part) (*string, error) {
	var pinned objstore.Cond
	if u.quirks.pinnedParts {
		pinned.If = u.base
	}
	out, err := u.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: u.bucket, Key: u.key(u.name), UploadId: u.id,
		PartNumber: aws.Int32(number), CopySource: u.source(u.from), CopySourceIfMatch: match(pinned), CopySourceRange: aws.String(byteRange(p.Base, p.Size))})
	if err != nil {
		return nil, unmatched(err, pinned)
	}
	if out.CopyPartResult == nil || rev(out.CopyPartResult.ETag) == "" {
		return nil, errOdd
	}
	return out.CopyPartResult.ETag, nil
}

// carry copies a small range through this machine.
func (u upload) carry(ctx context.Context, number int32, p objstore.Part) (*string, error) {
	body, _, err := u.get(ctx, u.from, p.Base, p.Size, objstore.Cond{If: u.base})
	if err != nil {
		return nil, err
	}
	b := make([]byte, p.Size)
	_, err = io.ReadFull(body, b)
	body.Close() // before it is sent: an open body holds a place that this may need
	if err != nil {
		return nil, fmt.Errorf("range %d+%d of the base: %w", p.Base, p.Size, err)
	}
	return u.send(ctx, number, bytes.NewReader(b), p.Size)
}

// abort frees what was sent, also when ctx has ended.
func (u upload) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	// An error has no consequence that the first one has not.
	u.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: u.bucket, Key: u.key(u.name), UploadId: u.id})
}
