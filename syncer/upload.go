package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// inlineMax is the size in bytes up to which a file's content goes along with
// its event.
const inlineMax = 16 << 10

// memoryMax is how many bytes of small files are held at a time while they are
// sent: many small files are in flight, few of 15 MiB.
const memoryMax = 128 << 20

// An outcome is how a job ended.
type outcome struct {
	path  manifest.Path
	entry manifest.Entry // what is at the path now; its Stat is zero while that proves nothing
	data  []byte         // the content, of a small file
	began time.Time
	large bool

	same  bool // the content is what is committed
	gone  bool // nothing is at the path any more
	err   error
	paths []manifest.Path // of a removal: the objects that were deleted

	uploaded, copied, reused int64 // bytes; see SourceStatus
	wasCopied                bool
	conflict                 string // key under which somebody else's version was kept
}

// upload works on one kind of jobs until the queue is closed.
func (s *Source) upload(ctx context.Context, big bool) {
	for {
		j, ok := s.queue.pop(big)
		if !ok {
			return
		}
		o := s.send(ctx, j)
		s.progress.finished(j.stat.Size)
		s.outcomes <- o
	}
}

// send reads the file of j and makes the bucket hold it.
func (s *Source) send(ctx context.Context, j job) outcome {
	o := outcome{path: j.path, began: time.Now(), large: j.large()}
	o.err = s.sendFile(ctx, j, &o)
	var local localError // what a store misses is another matter
	o.gone = errors.As(o.err, &local) && (errors.Is(o.err, fs.ErrNotExist) || errors.Is(o.err, errNotDir))
	return o
}

func (s *Source) sendFile(ctx context.Context, j job, o *outcome) error {
	root, below := s.root(j.path)
	file, err := manifest.OpenStable(root, below)
	if err != nil {
		return localError{err}
	}
	defer file.Close()
	read := time.Now()
	stat := file.Stat()
	if !j.large() {
		held := min(stat.Size, memoryMax)
		if err := s.memory.Acquire(ctx, held); err != nil {
			return err
		}
		defer s.memory.Release(held)
	}
	o.entry = manifest.Entry{File: manifest.File{
		Path: j.path, Mode: stat.Mode.Perm(), Size: stat.Size, MTime: stat.MTime,
	}}
	content, err := s.hash(file, j.old.PartSize, &o.entry.File)
	if err != nil {
		return localError{err}
	}
	if !stat.Fresh(read) {
		o.entry.Stat = stat
	}
	if j.known && j.old.SameContent(o.entry.File) {
		o.same = j.old.Mode == o.entry.Mode
		o.entry.Rev = j.old.Rev
		if o.same {
			o.entry.File = j.old
		}
		return nil
	}
	if stat.Size <= inlineMax {
		o.data = content
	}
	err = s.store(ctx, j, o, file, content)
	if err != nil && ctx.Err() == nil && !hopeless(err) && !errors.Is(err, objstore.ErrThrottled) && s.clearWay(ctx, j.path) {
		err = s.store(ctx, j, o, file, content)
	}
	return err
}

// clearWay removes objects of ours that nothing names and that keep a store
// which is a directory from taking p: one above it, or some below it. An
// earlier life of this agent left them between an upload and its commit.
func (s *Source) clearWay(ctx context.Context, p manifest.Path) bool {
	var orphans []string
	for dir := p.Dir(); dir != ""; dir = dir.Dir() {
		if s.orphan(ctx, string(dir)) {
			orphans = append(orphans, string(dir))
		}
	}
	for info, err := range s.opt.Store.List(ctx, string(p)+"/", "") {
		if err != nil || !s.orphan(ctx, info.Key) {
			break // it is not ours alone: the way stays closed
		}
		orphans = append(orphans, info.Key)
	}
	return len(orphans) > 0 && s.opt.Store.Delete(ctx, orphans...) == nil
}

// orphan reports whether an object of ours stands at key without a commit.
func (s *Source) orphan(ctx context.Context, key string) bool {
	s.mu.RLock()
	f, ok := s.index.Files().Get(manifest.Path(key))
	s.mu.RUnlock()
	if ok && !f.IsDir() {
		return false
	}
	info, err := s.opt.Store.Head(ctx, key)
	return err == nil && s.wrote(info)
}

// wrote reports whether this source wrote the object. A mount on this machine
// has the same writer, and no source.
func (s *Source) wrote(info objstore.Info) bool {
	return info.Meta[manifest.MetaWriter] == s.opt.Writer && info.Meta[manifest.MetaSource] == s.opt.Source
}

// hash fills in what the content says, and returns the content of a small file.
func (s *Source) hash(file *manifest.Stable, partSize int64, f *manifest.File) (content []byte, err error) {
	s.hashed.Add(f.Size)
	if f.PartSize = manifest.PartSize(f.Size, partSize); f.PartSize > 0 {
		f.Hash, f.Parts, err = file.Hash(f.PartSize)
		return nil, err
	}
	content, err = file.Content()
	f.Hash = manifest.Sum(content)
	return content, err
}

// store makes the object of the file: by a copy inside the store when the
// bucket has the content under another name, else by sending it.
func (s *Source) store(ctx context.Context, j job, o *outcome, file *manifest.Stable, content []byte) error {
	f := &o.entry.File
	opts := objstore.PutOptions{Meta: f.Meta(s.opt.Writer, s.opt.Source)}
	cond := objstore.Cond{Absent: true}
	if j.known {
		cond = objstore.Cond{If: objstore.Rev(j.old.Rev)}
	} else if f.PartSize > 0 {
		// A look before gigabytes are sent for nothing: an earlier run may have
		// sent them and died before its commit.
		if info, err := s.opt.Store.Head(ctx, string(f.Path)); err == nil && holds(info, *f) {
			f.Rev = string(info.Rev)
			return nil
		}
	}
	for attempt := 0; ; attempt++ {
		opts.Cond = cond
		info, err := s.write(ctx, j, o, file, content, opts)
		if err == nil {
			f.Rev = string(info.Rev)
			return nil
		}
		if unstable := file.Check(); errors.Is(unstable, manifest.ErrUnstable) {
			return localError{unstable} // it shrank under the upload, say
		}
		if !errors.Is(err, objstore.ErrPrecondition) || attempt == maxRaces {
			return fmt.Errorf("upload %s: %w", f.Path, err)
		}
		done, next, err := s.settle(ctx, o)
		if done || err != nil {
			return err
		}
		cond = next
	}
}

// maxRaces bounds how often a file is sent again because somebody else wrote
// its object in between.
const maxRaces = 5

func (s *Source) write(ctx context.Context, j job, o *outcome, file *manifest.Stable, content []byte, opts objstore.PutOptions) (objstore.Info, error) {
	f := o.entry.File
	if info, ok := s.copyInside(ctx, f, opts); ok {
		o.wasCopied, o.copied = true, f.Size
		return info, nil
	}
	if f.PartSize == 0 {
		info, err := s.opt.Store.Put(ctx, string(f.Path), bytes.NewReader(content), f.Size, opts)
		if err == nil {
			o.uploaded = f.Size
		}
		return info, err
	}
	base := objstore.Rev("")
	if opts.Cond.If == objstore.Rev(j.old.Rev) && !opts.Cond.Absent {
		base = opts.Cond.If
	}
	parts := s.parts(f, j.old, base, file)
	info, err := s.opt.Store.Assemble(ctx, string(f.Path), base, parts, file.Check, opts)
	if err == nil {
		_, o.uploaded = objstore.PartsSize(parts)
		o.reused = f.Size - o.uploaded
	}
	return info, err
}

// parts cuts the file so that what the object already holds is copied inside
// the store. base is the object's revision, "" when it cannot be used.
func (s *Source) parts(f, old manifest.File, base objstore.Rev, file io.ReaderAt) []objstore.Part {
	caps := s.opt.Store.Caps()
	if base == "" || old.PartSize != f.PartSize {
		old = manifest.File{}
	}
	if caps.Append && !caps.RangeCopy {
		return appended(f, old, file)
	}
	var parts []objstore.Part
	for i, h := range f.Parts {
		off := int64(i) * f.PartSize
		part := objstore.Part{Size: min(f.PartSize, f.Size-off)}
		if caps.RangeCopy && i < len(old.Parts) && old.Parts[i] == h && off+part.Size <= old.Size {
			part.Base = off
		} else {
			part.Body = io.NewSectionReader(file, off, part.Size)
		}
		parts = append(parts, part)
	}
	return parts
}

// appended takes the whole object where the file begins with it.
func appended(f, old manifest.File, file io.ReaderAt) []objstore.Part {
	rest := int64(0)
	var parts []objstore.Part
	if old.Size > 0 && old.Size < f.Size && begins(f, old, file) {
		rest = old.Size
		parts = append(parts, objstore.Part{Size: rest})
	}
	return append(parts, objstore.Part{Size: f.Size - rest, Body: io.NewSectionReader(file, rest, f.Size-rest)})
}

// begins reports whether f, whose bytes are file, begins with the whole of old.
func begins(f, old manifest.File, file io.ReaderAt) bool {
	last := len(old.Parts) - 1
	if last < 0 || !slices.Equal(old.Parts[:last], f.Parts[:last]) {
		return false
	}
	off := int64(last) * old.PartSize
	hash, _, err := manifest.HashReader(io.NewSectionReader(file, off, old.Size-off), 0)
	return err == nil && hash == old.Parts[last]
}

// copyInside makes the object from one that holds the same bytes: a renamed or
// copied file costs one request.
func (s *Source) copyInside(ctx context.Context, f manifest.File, opts objstore.PutOptions) (objstore.Info, bool) {
	if f.Size == 0 {
		return objstore.Info{}, false
	}
	s.mu.RLock()
	twin, ok := s.index.Files().Find(f.Hash)
	s.mu.RUnlock()
	if !ok || twin.Path == f.Path || twin.Rev == "" || twin.Size != f.Size {
		return objstore.Info{}, false
	}
	info, err := s.opt.Store.Copy(ctx, string(f.Path), string(twin.Path), objstore.Rev(twin.Rev), opts)
	if err != nil {
		s.log.Debug("not copied inside the store", "path", f.Path, "from", twin.Path, "err", err)
	}
	return info, err == nil
}

// settle finds out why a conditional write did not hold, and under which
// condition to try again. Somebody else's version is kept beside first.
func (s *Source) settle(ctx context.Context, o *outcome) (done bool, next objstore.Cond, err error) {
	f := &o.entry.File
	info, err := s.opt.Store.Head(ctx, string(f.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, objstore.Cond{Absent: true}, nil
	case err != nil:
		return false, next, fmt.Errorf("head %s: %w", f.Path, err)
	case holds(info, *f) || s.sameBytes(ctx, info, *f):
		f.Rev = string(info.Rev)
		return true, next, nil
	}
	if !s.wrote(info) {
		key := string(f.Path.Conflict(time.Now()))
		_, err := s.opt.Store.Copy(ctx, key, string(f.Path), info.Rev,
			objstore.PutOptions{Meta: info.Meta, Cond: objstore.Cond{Absent: true}})
		switch {
		case errors.Is(err, objstore.ErrPrecondition), errors.Is(err, fs.ErrNotExist):
			// The name is taken, or the version has changed again: look once more.
			return false, objstore.Cond{Absent: true}, nil
		case err != nil:
			return false, next, fmt.Errorf("keep the other version of %s: %w", f.Path, err)
		}
		o.conflict = key
	}
	return false, objstore.Cond{If: info.Rev}, nil
}

// holds reports whether the object is f's content.
func holds(info objstore.Info, f manifest.File) bool {
	return info.Size == f.Size && info.Meta[manifest.MetaHash] == f.Hash.String()
}

// sameBytes reads an object that carries no hash: a bucket that another tool
// filled with the same files is taken over as it is.
func (s *Source) sameBytes(ctx context.Context, info objstore.Info, f manifest.File) bool {
	if info.Size != f.Size || info.Meta[manifest.MetaHash] != "" {
		return false
	}
	body, _, err := s.opt.Store.Get(ctx, string(f.Path), 0, -1, objstore.Cond{If: info.Rev})
	if err != nil {
		return false
	}
	defer body.Close()
	hash, _, err := manifest.HashReader(body, 0)
	return err == nil && hash == f.Hash
}

// A localError is one of the source's own disk, not of the store.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

// unreadable reports whether err means that the file must be skipped.
func unreadable(err error) bool {
	var local localError
	return errors.As(err, &local) && !errors.Is(err, manifest.ErrUnstable) && !errors.Is(err, os.ErrClosed)
}
