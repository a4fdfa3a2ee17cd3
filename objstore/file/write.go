package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/skyagent/skyagent/objstore"
)

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.write(ctx, key, opts, func(_ *bucket, to *os.File) error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return copyRange(ctx, to, body, size)
	})
	return info, s.fail(objstore.OpPut, key, err)
}

// Copy implements objstore.Store. File systems with reflinks share the blocks.
func (s *Store) Copy(ctx context.Context, dst, src string, rev objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.write(ctx, dst, opts, func(b *bucket, to *os.File) error {
		from, have, err := s.stat(ctx, src, rev)
		if err != nil {
			return err
		}
		defer from.Close()
		return copyRange(ctx, to, from, have.Size)
	})
	return info, s.fail(objstore.OpCopy, dst, err)
}

// Assemble implements objstore.Store. Ranges of the base are copied by the
// kernel, or shared where the file system can.
func (s *Store) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.write(ctx, key, opts, func(_ *bucket, to *os.File) error {
		if err := s.assemble(ctx, key, base, parts, to); err != nil || check == nil {
			return err
		}
		if err := check(); err != nil {
			return theirs{err}
		}
		return nil
	})
	return info, s.fail(objstore.OpAssemble, key, err)
}

func (s *Store) assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, to *os.File) error {
	var from *os.File
	var have objstore.Info
	if objstore.NeedsBase(parts) {
		var err error
		if from, have, err = s.stat(ctx, key, base); err != nil {
			return err
		}
		defer from.Close()
	}
	if err := s.Caps().CheckParts(parts, have.Size); err != nil {
		return err
	}
	for _, p := range parts {
		if err := copyPart(ctx, to, from, p); err != nil {
			return err
		}
	}
	return nil
}

func copyPart(ctx context.Context, to, base *os.File, p objstore.Part) error {
	if p.Body != nil {
		return copyRange(ctx, to, io.NewSectionReader(p.Body, 0, p.Size), p.Size)
	}
	if _, err := base.Seek(p.Base, io.SeekStart); err != nil {
		return err
	}
	return copyRange(ctx, to, base, p.Size)
}

// copyRange appends n bytes of from. It goes by steps so that a cancelled
// context is noticed and dirty pages do not pile up; between two files
// io.CopyN is copy_file_range on Linux.
func copyRange(ctx context.Context, to *os.File, from io.Reader, n int64) error {
	const step = 16 << 20
	var done int64
	for done < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := io.CopyN(to, from, min(step, n-done))
		if err == io.EOF {
			return fmt.Errorf("body has %d bytes of %d: %w: %w", done+m, n, fs.ErrInvalid, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		if m == step {
			startWriteback(to, 0, 0) // offset and length 0: all that is dirty
		}
		done += m
	}
	return nil
}

// write makes an object of what fill writes: durable first, visible second,
// and the name durable third.
func (s *Store) write(ctx context.Context, key string, opts objstore.PutOptions, fill func(*bucket, *os.File) error) (objstore.Info, error) {
	b, err := s.bucket(ctx)
	if err != nil {
		return objstore.Info{}, err
	}
	if err := errors.Join(checkKey(key), b.start()); err != nil {
		return objstore.Info{}, err
	}
	if opts.Cond != (objstore.Cond{}) { // spare the bytes when it is lost already
		if err := b.check(ctx, key, opts.Cond); err != nil {
			return objstore.Info{}, err
		}
	}
	name := fmt.Sprintf("%s/%d", b.tmp, b.temps.Add(1))
	f, err := b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return objstore.Info{}, err
	}
	defer b.root.Remove(name) // no longer there after a rename
	defer f.Close()
	if err := fill(b, f); err != nil {
		return objstore.Info{}, err
	}
	return b.publish(ctx, key, f, name, opts)
}

// publish makes the temporary file the object at key.
func (b *bucket) publish(ctx context.Context, key string, f *os.File, tmp string, opts objstore.PutOptions) (objstore.Info, error) {
	fi, err := f.Stat()
	if err != nil {
		return objstore.Info{}, err
	}
	st := newStamp(fi, opts.Meta)
	beside, err := b.attach(f, st, fi)
	defer closeAll(beside)
	if err != nil {
		return objstore.Info{}, err
	}
	// Before the name: after a crash a name must never stand for bytes that
	// were not written.
	if err := b.commits.sync(append(beside, f)...); err != nil {
		return objstore.Info{}, err
	}
	var dirs []string
	err = b.locked(key, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if dirs, err = b.place(ctx, key, tmp, opts.Cond); err != nil && len(beside) > 0 {
			b.root.Remove(sidecar(fi))
		}
		return err
	})
	if err != nil {
		return objstore.Info{}, err
	}
	return st.info(key, fi), b.syncDirs(dirs...)
}

// check reports whether cond holds for key. Only under the key's lock does the
// answer last.
func (b *bucket) check(ctx context.Context, key string, cond objstore.Cond) error {
	path, fi, err := b.find(key)
	switch {
	case cond.Absent && err == nil:
		return objstore.ErrPrecondition
	case cond.If == "" && errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return objstore.ErrPrecondition
	case err != nil || cond.If == "":
		return err
	}
	rev, err := b.rev(path, fi)
	if err == nil && rev != cond.If {
		err = objstore.ErrPrecondition
	}
	return err
}

// rev reads the revision of the object in the file at path.
func (b *bucket) rev(path string, fi fs.FileInfo) (objstore.Rev, error) {
	f, err := b.root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, ok := stampOf(f)
	if !ok {
		st = b.sidecarOf(fi)
	}
	return st.info("", fi).Rev, nil
}

// place moves the file tmp to the object's name, under the key's lock, and
// returns the directories that must be made durable.
func (b *bucket) place(ctx context.Context, key, tmp string, cond objstore.Cond) ([]string, error) {
	if err := b.check(ctx, key, cond); err != nil {
		return nil, err
	}
	path, old, err := b.find(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	isOdd := err == nil && strings.HasPrefix(path, oddDir) || !plain(key)
	if !isOdd {
		dirs, err := b.move(tmp, key, cond)
		if !taken(err) {
			b.dropSidecar(old, err)
			return dirs, err
		}
	}
	dirs, err := b.move(tmp, oddDir+"/"+oddPath(key), cond)
	b.dropSidecar(old, err)
	return dirs, err
}

// dropSidecar removes what stood beside the file that was replaced.
func (b *bucket) dropSidecar(old fs.FileInfo, err error) {
	if old != nil && err == nil {
		b.root.Remove(sidecar(old))
	}
}

// errTaken says that a key's place is held by what is no object of that key.
var errTaken = errors.New("place is taken")

func taken(err error) bool { return errors.Is(err, errTaken) }

// nothing reports whether err says that no file is at a path.
func nothing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// move gives tmp its name. A directory that a Delete prunes between making it
// and using it is made again.
func (b *bucket) move(tmp, path string, cond objstore.Cond) ([]string, error) {
	const tries = 100 // each needs a Delete to win a race of microseconds
	dir, dirs := parent(path), []string{parent(path)}
	var err error
	for range tries {
		err = b.rename(tmp, path, cond)
		if !errors.Is(err, fs.ErrNotExist) {
			return dirs, err
		}
		if mk := b.root.MkdirAll(dir, 0o777); mk != nil && !errors.Is(mk, fs.ErrNotExist) {
			if blocked(mk) {
				return nil, errTaken
			}
			return nil, mk
		}
		// The names of new directories must be durable as well.
		dirs = ancestors(path)
	}
	return nil, err
}

// rename links or renames once.
func (b *bucket) rename(tmp, path string, cond objstore.Cond) error {
	var err error
	if cond.Absent {
		// The lock keeps other stores out, link(2) everybody else.
		err = b.root.Link(tmp, path)
	} else if fi, statErr := b.root.Lstat(path); statErr == nil && !fi.Mode().IsRegular() {
		return errTaken
	} else {
		err = b.root.Rename(tmp, path)
	}
	if !blocked(err) {
		return err
	}
	if fi, statErr := b.root.Lstat(path); statErr == nil && fi.Mode().IsRegular() && cond.Absent {
		return objstore.ErrPrecondition
	}
	return errTaken
}

// blocked reports whether err says that something else has a name on the way.
func blocked(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)
}

// ancestors returns the directories above path up to the bucket's own.
func ancestors(path string) []string {
	var dirs []string
	for path != "." {
		path = parent(path)
		dirs = append(dirs, path)
	}
	return dirs
}
