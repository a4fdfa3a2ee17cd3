package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/skyagent/skyagent/mount/blocks"
)

const (
	// cell is the unit in which a stage knows what it holds, in bytes: a page.
	cell = 4 << 10
	// stretch is the unit in which it knows what was changed: no part of an
	// upload is smaller.
	stretch = 1 << 20
)

// A stage is the content of a file that is being written: a local file, over
// the content that was opened. What was not written is read from there, so that
// a byte can be changed in a file of any size. It is not safe for several
// goroutines when one of them changes it.
type stage struct {
	file *os.File
	size int64
	name string // of the file, while it is in the journal

	total   *atomic.Int64 // of all stages of a mount, in bytes; nil counts nothing
	counted int64         // of it, for this one

	base    *blocks.Reader // nil when nothing of the former content shows
	full    int64          // its size
	reach   int64          // up to where the former content shows
	have    bits           // cells below reach that are in file
	changed bits           // stretches that differ from the former content
	lowest  int64          // least offset that was changed
}

// bits is a set of small numbers.
type bits []uint64

func (b bits) has(i int64) bool { return i>>6 < int64(len(b)) && b[i>>6]&(1<<(i&63)) != 0 }

func (b *bits) add(i int64) {
	for int64(len(*b)) <= i>>6 {
		*b = append(*b, 0)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

// newStage returns a stage over size bytes of base, or an empty one when base
// is nil. Its file has a name only while it is in a journal.
func newStage(dir string, base *blocks.Reader, size int64) (*stage, error) {
	file, err := nameless(dir)
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	s := &stage{file: file, lowest: size}
	if base == nil {
		return s, nil
	}
	if err := file.Truncate(size); err != nil {
		file.Close()
		return nil, fmt.Errorf("stage: %w", err)
	}
	s.base, s.size, s.full, s.reach = base, size, size, size
	return s, nil
}

// count brings the total up to date with the size.
func (s *stage) count() {
	if s.total != nil {
		s.total.Add(s.size - s.counted)
		s.counted = s.size
	}
}

func (s *stage) close() {
	if s.total != nil {
		s.total.Add(-s.counted)
		s.counted, s.total = 0, nil
	}
	if s.base != nil {
		s.base.Close()
	}
	s.file.Close()
}

// leave goes on with a copy of the file, which holds all of the content, in a
// nameless one.
func (s *stage) leave(dir string) error {
	file, err := nameless(dir)
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	_, err = s.file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(file, io.LimitReader(s.file, s.size))
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("stage: %w", err)
	}
	s.file.Close()
	s.file, s.name = file, ""
	return nil
}

// giveTo makes the file of s, which holds all of the content, that of the cache,
// without copying it: so nothing can be written to s any more.
func (s *stage) giveTo(cache *blocks.Cache, o blocks.Object) error {
	if err := readOnly(&s.file); err != nil {
		return err
	}
	return cache.Adopt(o, s.file)
}

// whole reports whether all of the content is in the file.
func (s *stage) whole() bool {
	for c := int64(0); c*cell < s.reach; c++ {
		if !s.have.has(c) {
			return false
		}
	}
	return true
}

// rebase says that size bytes of the content are what the bucket has now, which
// base reads. same is false when the stage may have changed since.
func (s *stage) rebase(base *blocks.Reader, size int64, same bool) {
	for c := (s.reach + cell - 1) / cell; c*cell < size; c++ {
		s.have.add(c)
	}
	if s.base != nil {
		s.base.Close()
	}
	if s.base = base; base != nil {
		s.reach = min(size, s.size)
	}
	s.full, s.lowest, s.changed = size, size, nil
	if !same {
		s.touch(0, size)
	}
}

// readAt reads like io.ReaderAt.
func (s *stage) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > s.size-off {
		p, end = p[:s.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		n, local := s.run(at, int64(len(p)-done))
		part := p[done : done+int(n)]
		var err error
		if local {
			_, err = s.file.ReadAt(part, at)
		} else {
			_, err = s.base.ReadAt(ctx, part, at)
		}
		if err != nil && err != io.EOF {
			return done, err
		}
		done += int(n)
	}
	return len(p), end
}

// run returns how many of n bytes from off on are read in one place, and whether
// that is the file.
func (s *stage) run(off, n int64) (int64, bool) {
	if off >= s.reach {
		return n, true
	}
	local := s.have.has(off / cell)
	end := (off/cell + 1) * cell
	for end < off+n && end < s.reach && s.have.has(end/cell) == local {
		end += cell
	}
	return min(end, max(s.reach, off+1), off+n) - off, local
}

// writeAt writes p at off. After an error what was there below the end may be
// changed in part, as on a local disk; nothing is longer.
func (s *stage) writeAt(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	end := off + int64(len(p))
	if err := s.round(ctx, off, end); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(p, off); err != nil {
		s.touch(off, min(end, s.size))
		return errors.Join(err, s.file.Truncate(s.size))
	}
	for c := off / cell; c*cell < min(end, s.reach); c++ {
		s.have.add(c)
	}
	s.touch(min(off, s.size), end) // a gap beyond the end is changed, too
	s.size = max(s.size, end)
	s.count()
	return nil
}

// zero makes n bytes from off on zero.
func (s *stage) zero(ctx context.Context, off, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for ; n > 0; n -= int64(len(zeros)) {
		zeros = zeros[:min(n, int64(len(zeros)))]
		if err := s.writeAt(ctx, zeros, off); err != nil {
			return err
		}
		off += int64(len(zeros))
	}
	return nil
}

// touch notes that bytes from off to end differ from what was.
func (s *stage) touch(off, end int64) {
	s.lowest = min(s.lowest, off)
	for i := off / stretch; i*stretch < min(end, s.full); i++ {
		s.changed.add(i)
	}
}

// round fetches the cells of which a write from off to end replaces a part.
func (s *stage) round(ctx context.Context, off, end int64) error {
	if off%cell != 0 {
		if err := s.fill(ctx, off/cell, off/cell+1); err != nil {
			return err
		}
	}
	if end%cell != 0 && end < s.reach {
		return s.fill(ctx, end/cell, end/cell+1)
	}
	return nil
}

// fill fetches the cells from first to before last that are not here.
func (s *stage) fill(ctx context.Context, first, last int64) error {
	const most = 1 << 20 / cell
	buf := []byte(nil)
	for c := first; c < last && c*cell < s.reach; {
		if s.have.has(c) {
			c++
			continue
		}
		n := int64(1)
		for n < most && c+n < last && (c+n)*cell < s.reach && !s.have.has(c+n) {
			n++
		}
		if int64(len(buf)) < n*cell {
			buf = make([]byte, n*cell)
		}
		want := buf[:min(n*cell, s.reach-c*cell)]
		if _, err := s.base.ReadAt(ctx, want, c*cell); err != nil && err != io.EOF {
			return err
		}
		if _, err := s.file.WriteAt(want, c*cell); err != nil {
			return err
		}
		for i := c; i < c+n; i++ {
			s.have.add(i)
		}
		c += n
	}
	return nil
}

// complete fetches all that is not here.
func (s *stage) complete(ctx context.Context) error {
	return s.fill(ctx, 0, (s.reach+cell-1)/cell)
}

// truncate makes the content size bytes long.
func (s *stage) truncate(ctx context.Context, size int64) error {
	if size < s.reach {
		if err := s.round(ctx, size, size); err != nil {
			return err
		}
		s.reach = size
	}
	if err := s.file.Truncate(size); err != nil {
		return err
	}
	s.touch(min(size, s.size), max(size, s.size))
	s.size = size
	s.count()
	return nil
}

// reader reads the content of s from off on. What it reads for the first time
// is progress; what is sent again is not.
func (s *stage) reader(ctx context.Context, off int64) io.ReaderAt {
	return &stageReader{ctx: ctx, s: s, off: off}
}

type stageReader struct {
	ctx  context.Context
	s    *stage
	off  int64
	most atomic.Int64 // where the furthest read ended
}

func (r *stageReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.s.readAt(r.ctx, p, r.off+off)
	if end := off + int64(n); n > 0 && end > r.most.Load() {
		r.most.Store(end)
		progress(r.ctx)
	}
	return n, err
}
