package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// rangeReads is how many ranges of one large file are fetched at a time.
const rangeReads = 4

// errMoved says that the object is not at the revision that the commit names:
// the source has gone on, and a later commit says how.
var errMoved = errors.New("the object is no longer the one that was committed")

// moved reports whether a failure heals with the source's next commit.
func moved(err error) bool { return errors.Is(err, errMoved) }

// fetch makes a temporary file with the content that c names, verified.
func (r *Replica) fetch(ctx context.Context, c manifest.Change, t temp, d *result) error {
	file, err := t.create()
	if err != nil {
		return err
	}
	err = r.fill(ctx, file, c, d)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		t.remove()
		var on *fs.PathError // the temporary file's name is nobody's business
		if errors.As(err, &on) {
			err = on.Err
		}
		return fmt.Errorf("fetch %s: %w", c.Path, err)
	}
	return nil
}

// fill writes the content to file, from wherever it is nearest.
func (r *Replica) fill(ctx context.Context, file *os.File, c manifest.Change, d *result) error {
	switch {
	case c.Size == 0 && manifest.Sum(nil) == c.Hash:
		return nil
	case int64(len(c.Data)) == c.Size && manifest.Sum(c.Data) == c.Hash:
		d.inlined()
		_, err := file.Write(c.Data)
		return err
	case r.fillFromTwin(file, c.File, d):
		return nil
	case c.PartSize > 0:
		return r.fillParts(ctx, file, c.File, d)
	}
	return r.fillWhole(ctx, file, c.File, d)
}

// fillFromTwin copies another file of the replica that has the same content.
func (r *Replica) fillFromTwin(file *os.File, f manifest.File, d *result) bool {
	twin, ok := r.index.Files().Find(f.Hash)
	if !ok || twin.Path == f.Path || twin.Size != f.Size {
		return false
	}
	if err := r.copyFrom(file, twin, f); err != nil {
		file.Truncate(0)
		file.Seek(0, io.SeekStart)
		return false
	}
	d.mu.Lock()
	d.reusedBytes += f.Size
	d.mu.Unlock()
	return true
}

// takeLocal makes a temporary file for u: the old file itself under a second
// name when that is safe, a copy otherwise.
func (r *Replica) takeLocal(u reuse, t temp) error {
	if u.alone && r.unchanged(u.from.Path) && r.root.Link(disk(u.from.Path), t.path()) == nil {
		if fi, err := r.root.Lstat(t.path()); err == nil {
			r.moving[u.from.Path] = fi
		}
		return nil
	}
	file, err := t.create()
	if err != nil {
		return err
	}
	err = r.copyFrom(file, u.from, u.change.File)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		t.remove()
	}
	return err
}

// unchanged reports whether the file at p is as this replica placed it, by its
// Stat alone.
func (r *Replica) unchanged(p manifest.Path) bool {
	fi, err := r.root.Lstat(disk(p))
	return err == nil && r.index.Stat(p).Unchanged(manifest.StatOf(fi))
}

// copyFrom copies the file at twin's path and verifies that it is f's content.
func (r *Replica) copyFrom(file *os.File, twin, f manifest.File) error {
	from, err := manifest.OpenStable(r.root, twin.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	if from.Stat().Size != f.Size {
		return manifest.ErrUnstable
	}
	if _, err := io.Copy(file, from.Reader()); err != nil {
		return err
	}
	return verify(file, f)
}

// verify reads the file back and compares its hash.
func verify(file *os.File, f manifest.File) error {
	hash, _, err := manifest.HashReader(io.NewSectionReader(file, 0, f.Size), 0)
	if err != nil {
		return err
	}
	if hash != f.Hash {
		return fmt.Errorf("content has hash %s, the manifest says %s: %w", hash, f.Hash, errMoved)
	}
	return nil
}

// fillWhole fetches a small file in one request and hashes it on the way.
func (r *Replica) fillWhole(ctx context.Context, file *os.File, f manifest.File, d *result) error {
	body, err := r.get(ctx, f, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	hash, _, err := manifest.HashReader(io.TeeReader(io.LimitReader(body, f.Size+1), file), 0)
	if err != nil {
		return err
	}
	if hash != f.Hash {
		return fmt.Errorf("content has hash %s, the manifest says %s: %w", hash, f.Hash, errMoved)
	}
	d.fetched(1, f.Size)
	return nil
}

func (d *result) inlined() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inlineFiles++
}

func (d *result) fetched(files, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetchedFiles += files
	d.fetchedBytes += bytes
}

// get reads a range of the object at the revision that was committed.
func (r *Replica) get(ctx context.Context, f manifest.File, off, n int64) (io.ReadCloser, error) {
	body, _, err := r.opt.Store.Get(ctx, string(f.Path), off, n, objstore.Cond{If: objstore.Rev(f.Rev)})
	if errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrNoBucket) {
		return nil, errors.Join(errMoved, err)
	}
	return body, err
}

// fillParts fetches a large file by ranges, in parallel; what the version that
// is in place has already is taken from there. Every part is verified by its
// own hash, which the manifest vouches for as for the file's.
func (r *Replica) fillParts(ctx context.Context, file *os.File, f manifest.File, d *result) error {
	if n := (f.Size + f.PartSize - 1) / f.PartSize; n != int64(len(f.Parts)) {
		return fmt.Errorf("the manifest has %d of %d parts: %w", len(f.Parts), n, errMoved)
	}
	if err := file.Truncate(f.Size); err != nil {
		return err
	}
	have, done := r.localParts(f)
	defer done()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rangeReads)
	for i, want := range f.Parts {
		group.Go(func() error {
			off := int64(i) * f.PartSize
			n := min(f.PartSize, f.Size-off)
			if from, ok := have[want]; ok && copyPart(file, from, off, n, want) == nil {
				d.mu.Lock()
				d.reusedBytes += n
				d.mu.Unlock()
				return nil
			}
			return r.fetchPart(ctx, file, f, off, n, want, d)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	d.fetched(1, 0)
	return nil
}

// localParts returns readers of the parts that the version in place has.
func (r *Replica) localParts(f manifest.File) (map[manifest.Hash]io.ReaderAt, func()) {
	old, ok := r.index.Files().Get(f.Path)
	if !ok || len(old.Parts) == 0 {
		return nil, func() {}
	}
	file, err := manifest.OpenStable(r.root, f.Path)
	if err != nil {
		return nil, func() {}
	}
	have := make(map[manifest.Hash]io.ReaderAt, len(old.Parts))
	for i, h := range old.Parts {
		off := int64(i) * old.PartSize
		have[h] = io.NewSectionReader(file, off, min(old.PartSize, old.Size-off))
	}
	return have, func() { file.Close() }
}

// copyPart copies n bytes to offset off of file when they have the hash want.
func copyPart(file *os.File, from io.ReaderAt, off, n int64, want manifest.Hash) error {
	return writePart(file, io.NewSectionReader(from, 0, n), off, want)
}

func (r *Replica) fetchPart(ctx context.Context, file *os.File, f manifest.File, off, n int64, want manifest.Hash, d *result) error {
	body, err := r.get(ctx, f, off, n)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := writePart(file, io.LimitReader(body, n), off, want); err != nil {
		return fmt.Errorf("bytes from %d on: %w", off, err)
	}
	d.fetched(0, n)
	return nil
}

// writePart writes what from gives at offset off and compares its hash.
func writePart(file *os.File, from io.Reader, off int64, want manifest.Hash) error {
	hash, _, err := manifest.HashReader(io.TeeReader(from, io.NewOffsetWriter(file, off)), 0)
	if err != nil {
		return err
	}
	if hash != want {
		return fmt.Errorf("part has another hash: %w", errMoved)
	}
	return nil
}
