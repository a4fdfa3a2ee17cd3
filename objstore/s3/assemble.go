package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/objstore"
)

const (
	partsAtOnce  = 8 // of one object; how many requests there are in all is pace's to say
	abortTimeout = 10 * time.Second
)

// Assemble implements objstore.Store by a multipart upload. Neighbouring
// ranges of the base become one copy. An upload that fails for a reason that
// may pass, or because the process ends, is gone on with by the next Assemble of
// the same bytes, where Config.Uploads says how to remember it and opts.Meta has
// the content's "blake3". Any other is aborted.
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
	u.Store = s
	etag, resumed, err := u.try(ctx, parts, check, opts)
	if resumed && hasCode(err, "NoSuchUpload", "InvalidPart", "InvalidPartOrder") {
		etag, _, err = u.try(ctx, parts, check, opts) // the server has forgotten what we remember
	}
	if err != nil {
		return objstore.Info{}, err
	}
	size, _ := objstore.PartsSize(parts)
	return objstore.Info{Key: u.name, Size: size, Rev: rev(etag), ModTime: time.Now(), Meta: opts.Meta}, nil
}

// try makes the object by a new upload, or goes on with one that is remembered.
func (u upload) try(ctx context.Context, parts []objstore.Part, check func() error, opts objstore.PutOptions) (etag *string, resumed bool, err error) {
	now := begun{Bucket: u.wire.base.String(), Key: *u.key(u.name), Plan: u.plan(parts, opts.Meta)}
	u.memo = u.uploads.recall(now)
	over := false
	defer func() { u.memo.close(over) }()
	if now.ID, resumed, err = u.find(ctx, now, opts.Meta); err != nil {
		return nil, false, err
	}
	u.memo.begin(now, resumed)
	u.id = &now.ID
	u.check = &checker{check: check}
	etag, err = u.finish(ctx, parts, opts.Cond)
	if over = err == nil || !u.worthKeeping(ctx, err); over && err != nil {
		u.abort(ctx, now.Key, now.ID)
	}
	return etag, resumed, err
}

// worthKeeping reports whether another attempt may go on with an upload that
// met err.
func (u upload) worthKeeping(ctx context.Context, err error) bool {
	if !u.memo.keeps() || u.check.refused {
		return false
	}
	return ctx.Err() != nil || !objstore.Lasting(named(err)) && !hasCode(err, "NoSuchUpload")
}

// find returns the id of the upload that is remembered, or of a new one.
func (u upload) find(ctx context.Context, now begun, meta map[string]string) (id string, resumed bool, err error) {
	old := u.memo.begun
	switch {
	case old.ID == "":
	case old.Plan != now.Plan: // of other content
		u.abort(ctx, old.Key, old.ID)
	default:
		// A server that does not know it any more may break the connections of
		// parts before it says so.
		if there, err := u.exists(ctx, old.Key, old.ID); there || err != nil {
			return old.ID, true, err
		}
	}
	id, err = u.create(ctx, meta)
	return id, false, err
}

func (u upload) create(ctx context.Context, meta map[string]string) (id string, err error) {
	out, err := u.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: u.bucket, Key: u.key(u.name), Metadata: meta})
	if err == nil && aws.ToString(out.UploadId) == "" {
		err = errOdd
	}
	if err != nil {
		return "", err
	}
	return *out.UploadId, nil
}

// A checker asks a check that several goroutines want asked.
type checker struct {
	mu      sync.Mutex // guards what follows
	check   func() error
	refused bool
}

func (c *checker) ask() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.check()
	if err != nil {
		c.refused = true
	}
	return err
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
	name  string
	id    *string
	from  string       // key of the object that ranges are copied from
	base  objstore.Rev // its revision
	memo  *memo
	check *checker
}

// finish sends all parts, asks check, and makes the object visible.
func (u upload) finish(ctx context.Context, parts []objstore.Part, cond objstore.Cond) (etag *string, err error) {
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
	if err := u.check.ask(); err != nil {
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
	etag := u.memo.etag(number)
	if etag == "" {
		made, err := u.make(ctx, number, p)
		if err != nil {
			return types.CompletedPart{}, err
		}
		etag = string(rev(made))
		if err := u.remember(number, etag); err != nil {
			return types.CompletedPart{}, err
		}
	}
	return types.CompletedPart{PartNumber: aws.Int32(number), ETag: aws.String(etag)}, nil
}

// make sends a part or has it copied.
func (u upload) make(ctx context.Context, number int32, p objstore.Part) (etag *string, err error) {
	switch {
	case p.Body != nil:
		return u.send(ctx, number, io.NewSectionReader(p.Body, 0, p.Size), p.Size)
	case p.Base+p.Size <= u.caps.MinPart:
		// S3 copies no ranges of objects this small.
		return u.carry(ctx, number, p)
	}
	return u.copyPart(ctx, number, p)
}

// remember notes a part, which is what the plan says only if nobody changed
// the source until it was sent.
func (u upload) remember(number int32, etag string) error {
	if !u.memo.keeps() {
		return nil
	}
	if err := u.check.ask(); err != nil {
		return err
	}
	u.memo.note(number, etag)
	return nil
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
		PartNumber: aws.Int32(number), CopySource: u.source(u.from), CopySourceIfMatch: match(pinned), CopySourceRange: aws.String(objstore.ByteRange(p.Base, p.Size))})
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

// exists reports whether the server knows an upload.
func (s *Store) exists(ctx context.Context, key, id string) (bool, error) {
	_, err := s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: s.bucket, Key: &key, UploadId: &id, MaxParts: aws.Int32(1)})
	if hasCode(err, "NoSuchUpload") {
		return false, nil
	}
	return err == nil, err
}

// abort frees what was sent to key, its name in the bucket, also when ctx has
// ended. A server may still be at work on a part, and fail or leave it: S3 asks
// to look, and to try again until the upload is gone.
func (s *Store) abort(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		there := true
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: s.bucket, Key: &key, UploadId: &id})
		if err == nil || hasCode(err, "NoSuchUpload") {
			there, err = s.exists(ctx, key, id)
		}
		if !there && err == nil || wait > time.Second || objstore.Lasting(named(err)) {
			return err
		}
		time.Sleep(wait)
	}
}
