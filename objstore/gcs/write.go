package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"cloud.google.com/go/storage"

	"github.com/skyagent/skyagent/objstore"
)

const (
	contentType = "application/octet-stream"
	// Up to small an object is read before it is sent: the request then says
	// its checksum, and a body that breaks costs none.
	small = 256 << 10
	// Up to chunk an object is one request, beyond it a resumable upload whose
	// chunks are this long.
	chunk = 16 << 20
)

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.put(ctx, key, body, size, opts)
	return info, s.fail(ctx, objstore.OpPut, key, err)
}

func (s *Store) put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	if size > s.Caps().MaxPart {
		return objstore.Info{}, fmt.Errorf("%d bytes are more than an object holds: %w", size, fs.ErrInvalid)
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return objstore.Info{}, theirs{err}
	}
	return s.upload(ctx, key, size, opts, func(w io.Writer) error { return send(w, body, size) })
}

// upload writes an object of size bytes under opts.Cond. fill writes them all;
// when it fails nothing becomes visible.
func (s *Store) upload(ctx context.Context, key string, size int64, opts objstore.PutOptions, fill func(io.Writer) error) (objstore.Info, error) {
	o, err := s.under(key, opts.Cond)
	if err != nil {
		return objstore.Info{}, err
	}
	// The end of its context is the one way to abandon a Writer: Close would
	// make an object of what it has.
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	w := o.NewWriter(ctx)
	w.ContentType, w.Metadata = contentType, opts.Meta
	w.StorageClass, w.KMSKeyName = s.config.StorageClass, s.config.KMSKey
	if size <= small {
		err = whole(w, fill)
	} else {
		// Not one chunk is the last before Close has said so, since there is
		// room for one byte more.
		w.ChunkSize = int(min(size+1, chunk))
		err = fill(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return objstore.Info{}, unmatched(err, opts.Cond.If)
	}
	return describe(key, w.Attrs()), nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// whole gathers what fill writes, and sends it with its checksum in a single
// request without the SDK's buffer.
func whole(w *storage.Writer, fill func(io.Writer) error) error {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	if err := fill(b); err != nil {
		return err
	}
	w.ChunkSize, w.SendCRC32C, w.CRC32C = 0, true, crc32.Checksum(b.Bytes(), castagnoli)
	_, err := w.Write(b.Bytes())
	return err
}

// send copies size bytes to w. An error of body's is the caller's own fault,
// and no other attempt would change it.
func send(w io.Writer, body io.Reader, size int64) error {
	src := &source{Reader: body}
	n, err := io.CopyN(w, src, size)
	switch {
	case src.failed != nil && src.failed != io.EOF:
		return theirs{fmt.Errorf("read body: %w: %w", fs.ErrInvalid, src.failed)}
	case errors.Is(err, io.EOF) && n < size && src.failed == io.EOF:
		return theirs{fmt.Errorf("body ends before byte %d: %w: %w", size, fs.ErrInvalid, io.ErrUnexpectedEOF)}
	}
	return err
}

// A source remembers how a body ended.
type source struct {
	io.Reader
	failed error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		s.failed = err
	}
	return n, err
}
