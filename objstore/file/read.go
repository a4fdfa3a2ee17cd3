package file

import (
	"context"
	"io"
	"os"

	"github.com/skyagent/skyagent/objstore"
)

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	f, info, err := s.stat(ctx, key, "")
	if err != nil {
		return objstore.Info{}, s.fail(objstore.OpHead, key, err)
	}
	f.Close()
	return info, nil
}

// Get implements objstore.Store. The reader keeps the object it began with:
// a write makes another file.
func (s *Store) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	f, info, err := s.stat(ctx, key, cond.If)
	if err != nil {
		return nil, objstore.Info{}, s.fail(objstore.OpGet, key, err)
	}
	off = min(off, info.Size)
	if left := info.Size - off; n < 0 || n > left {
		n = left
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		f.Close()
		return nil, objstore.Info{}, s.fail(objstore.OpGet, key, err)
	}
	return &reader{io.LimitedReader{R: f, N: n}, f, ctx}, info, nil
}

// stat opens the object at key, which must be at revision rev unless that is "".
func (s *Store) stat(ctx context.Context, key string, rev objstore.Rev) (*os.File, objstore.Info, error) {
	b, err := s.bucket(ctx)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	f, fi, st, err := b.look(ctx, key)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	info := st.info(key, fi)
	if rev != "" && info.Rev != rev {
		f.Close()
		return nil, objstore.Info{}, objstore.ErrPrecondition
	}
	return f, info, nil
}

// A reader reads a stretch of a file until its context ends.
type reader struct {
	io.LimitedReader
	file *os.File
	ctx  context.Context // of the Get, as an HTTP body's is that of its request
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.LimitedReader.Read(p)
	if err == io.EOF && r.N > 0 {
		err = io.ErrUnexpectedEOF // somebody cut the file in place
	}
	return n, err
}

func (r *reader) Close() error { return r.file.Close() }
