package s3

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/skyagent/skyagent/objstore"
)

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	info, err := s.head(ctx, key, objstore.Cond{})
	return info, s.fail(ctx, objstore.OpHead, key, err)
}

func (s *Store) head(ctx context.Context, key string, cond objstore.Cond) (objstore.Info, error) {
	if err := s.check(key); err != nil {
		return objstore.Info{}, err
	}
	h := make(http.Header, 6)
	ifMatch(h, cond.If)
	resp, err := s.wire.do(ctx, request{method: http.MethodHead, key: s.prefix + key, header: h})
	if status(err) == http.StatusNotFound { // of the key or of the bucket: only a GET's answer says which
		resp, err = s.wire.do(ctx, request{method: http.MethodGet, key: s.prefix + key, header: h})
	}
	if err != nil {
		return objstore.Info{}, unmatched(err, cond)
	}
	resp.Body.Close()
	return describe(key, resp)
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	body, info, err := s.get(ctx, key, off, n, cond)
	return body, info, s.fail(ctx, objstore.OpGet, key, err)
}

func (s *Store) get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	if n == 0 {
		return s.nothing(ctx, key, cond) // HTTP has no empty range
	}
	if err := s.check(key); err != nil {
		return nil, objstore.Info{}, err
	}
	h := make(http.Header, 8)
	ifMatch(h, cond.If)
	if r := objstore.ByteRange(off, n); r != "" {
		h["Range"] = []string{r}
	}
	resp, err := s.wire.do(ctx, request{method: http.MethodGet, key: s.prefix + key, header: h})
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return s.nothing(ctx, key, cond)
	}
	if err != nil {
		return nil, objstore.Info{}, unmatched(err, cond)
	}
	info, err := describe(key, resp)
	if err == nil && h["Range"] != nil {
		err = objstore.InRange(resp, off, n, info.Size)
	}
	if err != nil {
		resp.Body.Close()
		return nil, objstore.Info{}, err
	}
	return resp.Body, info, nil
}

// nothing answers a Get of no bytes.
func (s *Store) nothing(ctx context.Context, key string, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	info, err := s.head(ctx, key, cond)
	if err != nil {
		return nil, info, err
	}
	return http.NoBody, info, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.put(ctx, key, body, size, opts)
	return info, s.fail(ctx, objstore.OpPut, key, err)
}

func (s *Store) put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	if err := s.check(key); err != nil {
		return objstore.Info{}, err
	}
	if size > s.caps.MaxPart {
		return objstore.Info{}, fmt.Errorf("%d bytes are more than one request takes: %w", size, fs.ErrInvalid)
	}
	h := headers(opts)
	if err := sum(h, body, size); err != nil {
		return objstore.Info{}, err
	}
	etag, err := s.send(ctx, request{key: s.prefix + key, header: h}, body, size)
	if err != nil {
		return objstore.Info{}, unmatched(err, opts.Cond)
	}
	return objstore.Info{Key: key, Size: size, Rev: rev(etag), ModTime: time.Now(), Meta: opts.Meta}, nil
}

// send puts an object, or a part of one as r says, and returns its ETag.
func (s *Store) send(ctx context.Context, r request, body io.ReadSeeker, size int64) (*string, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	src := &source{ReadSeeker: body}
	r.method, r.body, r.size = http.MethodPut, src, size
	r.header["Content-Type"] = []string{"application/octet-stream"}
	resp, err := s.wire.do(ctx, r)
	src.release()
	if err != nil {
		return nil, src.blame(err, size)
	}
	// Only a body that was read to its end leaves the connection to others.
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	return aws.String(resp.Header.Get("Etag")), nil
}

// A source is a body that remembers whether it was to blame: what our own disk
// did wrong is no reason to ask the server again. It is for one request: the
// transport may go on reading when an answer came early or the context ended,
// and would take bytes from the next attempt.
type source struct {
	io.ReadSeeker
	mu     sync.Mutex // held by who reads; guards over
	over   bool
	read   atomic.Int64
	failed atomic.Pointer[error] // the transport reads on a goroutine of its own
}

// release waits for a Read that is under way, and forbids others.
func (s *source) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, net.ErrClosed
	}
	n, err := s.ReadSeeker.Read(p)
	s.read.Add(int64(n))
	if err != nil {
		s.failed.Store(&err)
	}
	return n, err
}

func (s *source) Seek(off int64, whence int) (int64, error) {
	n, err := s.ReadSeeker.Seek(off, whence)
	s.read.Store(n)
	return n, err
}

// blame returns the source's own error instead of what the transport made of it.
func (s *source) blame(err error, size int64) error {
	failed := s.failed.Load()
	switch {
	case failed == nil || status(err) != 0:
		return err
	case *failed != io.EOF:
		return fmt.Errorf("read body: %w: %w", fs.ErrInvalid, *failed)
	case s.read.Load() < size:
		return fmt.Errorf("body ends before byte %d: %w: %w", size, fs.ErrInvalid, io.ErrUnexpectedEOF)
	}
	return err
}

// Copy implements objstore.Store. Where the server ignores the condition on
// the destination it is looked at here, and a writer between may be lost.
func (s *Store) Copy(ctx context.Context, dst, src string, from objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.copy(ctx, dst, src, from, opts)
	return info, s.fail(ctx, objstore.OpCopy, dst, err)
}

func (s *Store) copy(ctx context.Context, dst, src string, from objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	if err := s.check(dst); err != nil {
		return objstore.Info{}, err
	}
	have, err := s.head(ctx, src, objstore.Cond{If: from})
	if err != nil {
		return objstore.Info{}, err
	}
	if have.Size > s.caps.MaxPart {
		return s.copyLarge(ctx, dst, src, have, opts)
	}
	in := &s3.CopyObjectInput{Bucket: s.bucket, Key: s.key(dst), CopySource: s.source(src), CopySourceIfMatch: match(objstore.Cond{If: have.Rev}),
		Metadata: opts.Meta, MetadataDirective: "REPLACE"}
	if s.caps.CondCopy {
		in.IfMatch, in.IfNoneMatch = match(opts.Cond), absent(opts.Cond)
	} else if err := s.look(ctx, dst, opts.Cond); err != nil {
		return objstore.Info{}, err
	}
	out, err := s.client.CopyObject(ctx, in)
	if err != nil {
		return objstore.Info{}, unmatched(err, objstore.Cond{If: have.Rev})
	}
	if out.CopyObjectResult == nil || rev(out.CopyObjectResult.ETag) == "" {
		return objstore.Info{}, errOdd
	}
	return objstore.Info{Key: dst, Size: have.Size, Rev: rev(out.CopyObjectResult.ETag),
		ModTime: aws.ToTime(out.CopyObjectResult.LastModified), Meta: opts.Meta}, nil
}

// look reports whether cond holds now.
func (s *Store) look(ctx context.Context, key string, cond objstore.Cond) error {
	if cond == (objstore.Cond{}) {
		return nil
	}
	_, err := s.head(ctx, key, cond)
	switch {
	case cond.Absent && err == nil:
		return objstore.ErrPrecondition
	case cond.Absent && status(err) == http.StatusNotFound:
		return nil
	}
	return err
}

// source names an object of this Store in a copy's header.
func (s *Store) source(key string) *string {
	return aws.String(httpbinding.EscapePath(*s.bucket+"/"+*s.key(key), false))
}

// rev returns the revision for an ETag. Without quotes it is good for all
// servers, also within the XML of a multipart upload.
func rev(etag *string) objstore.Rev {
	return objstore.Rev(strings.Trim(aws.ToString(etag), `"`))
}

func match(c objstore.Cond) *string {
	if c.If == "" {
		return nil
	}
	return aws.String(`"` + string(c.If) + `"`)
}

func absent(c objstore.Cond) *string {
	if !c.Absent {
		return nil
	}
	return aws.String("*")
}
