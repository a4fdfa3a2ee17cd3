package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// inlineMax is the size in bytes up to which a content goes along with its
// announcement.
const inlineMax = 16 << 10

// metaLine names the file, as one life of it, whose versions follow on each other.
const metaLine = "line"

// An upload is a content on its way to the bucket.
type upload struct {
	file  manifest.File // what the bucket will have; without its Rev
	cond  objstore.Cond
	gen   uint64 // of the file, when the content was looked at
	line  string // of the file
	data  []byte // of a small one
	parts []objstore.Part
	hold  func() // ends the hold on the stage that parts read
}

// errHalf says that somebody writes what he has not closed: what is half written is
// for nobody to see.
var errHalf = errors.New("file is being written")

// content looks at what f has to be at p. For a large file it holds the stage
// as it is until send is done; a small one is read. f.upload is held.
func (m *FS) content(ctx context.Context, f *file, p manifest.Path) (*upload, error) {
	f.mu.RLock()
	m.tree.mu.RLock()
	up := &upload{gen: f.gen, line: f.line, cond: f.cond, hold: f.mu.RUnlock, file: manifest.File{
		Path: p, Mode: f.n.fileMode(), Size: f.stage.size, MTime: f.n.mtime, Xattrs: f.n.xattrs(),
		PartSize: manifest.PartSize(f.stage.size, f.former.PartSize),
	}}
	half := f.spare && f.half()
	if up.cond.Absent {
		prev := f.over.rev()
		up.cond = objstore.Cond{Absent: prev == "", If: prev}
	}
	m.tree.mu.RUnlock()
	if half {
		f.mu.RUnlock()
		return nil, errHalf
	}
	if up.file.PartSize == 0 {
		defer f.mu.RUnlock()
		up.hold = func() {}
		return up, up.readSmall(ctx, f.stage)
	}
	if err := up.cut(ctx, f, m.opt.Store.Caps()); err != nil {
		f.mu.RUnlock()
		return nil, err
	}
	return up, nil
}

func (u *upload) readSmall(ctx context.Context, s *stage) error {
	u.data = make([]byte, s.size)
	if n, err := s.readAt(ctx, u.data, 0); n < len(u.data) && err != nil {
		return err
	}
	u.file.Hash = manifest.Sum(u.data)
	return nil
}

func (u *upload) inline() []byte {
	if len(u.data) > inlineMax {
		return nil
	}
	return u.data
}

// cut divides a large file into parts: what the bucket has already is copied
// there. The hash of the whole is known only when the whole is here.
func (u *upload) cut(ctx context.Context, f *file, caps objstore.Caps) error {
	s, size := f.stage, u.file.PartSize
	if s.base == nil || s.whole() {
		var err error
		u.file.Hash, u.file.Parts, err = manifest.HashReader(io.NewSectionReader(s.reader(ctx, 0), 0, s.size), size)
		if err != nil {
			return err
		}
	}
	if caps.Append && !caps.RangeCopy {
		u.parts = appended(ctx, f)
		return u.hashParts(ctx, f)
	}
	for off := int64(0); off < s.size; off += size {
		part := objstore.Part{Size: min(size, s.size-off), Base: off}
		if !caps.RangeCopy || !f.untouched(off, part.Size) {
			part.Base, part.Body = 0, s.reader(ctx, off)
		}
		u.parts = append(u.parts, part)
	}
	return u.hashParts(ctx, f)
}

// untouched reports whether the bucket's object has the bytes from off on where
// they belong.
func (f *file) untouched(off, n int64) bool {
	if f.cond.If == "" || f.former.Rev != f.cond.If || off+n > min(f.former.Size, f.stage.full) {
		return false
	}
	for i := off / stretch; i*stretch < off+n; i++ {
		if f.stage.changed.has(i) {
			return false
		}
	}
	return true
}

// appended takes the whole object where the file begins with it.
func appended(ctx context.Context, f *file) []objstore.Part {
	s, old := f.stage, f.former.Size
	if old == 0 || s.lowest < old || s.size <= old || f.cond.If == "" {
		return []objstore.Part{{Size: s.size, Body: s.reader(ctx, 0)}}
	}
	return []objstore.Part{{Size: old}, {Size: s.size - old, Body: s.reader(ctx, old)}}
}

// hashParts finds the hashes of a file that is not wholly here: those of parts
// that did not change are known, the others are read. Where the former content
// has none, this one has none either.
func (u *upload) hashParts(ctx context.Context, f *file) error {
	if u.file.Parts != nil {
		return nil
	}
	size := u.file.PartSize
	if f.former.PartSize != size || len(f.former.Parts) == 0 {
		u.file.PartSize = 0
		return nil
	}
	for off := int64(0); off < u.file.Size; off += size {
		n := min(size, u.file.Size-off)
		if i := off / size; f.untouched(off, n) && i < int64(len(f.former.Parts)) {
			u.file.Parts = append(u.file.Parts, f.former.Parts[i])
			continue
		}
		hash, _, err := manifest.HashReader(io.NewSectionReader(f.stage.reader(ctx, off), 0, n), 0)
		if err != nil {
			return err
		}
		u.file.Parts = append(u.file.Parts, hash)
	}
	return nil
}

// send writes the object.
func (u *upload) send(ctx context.Context, m *FS) (objstore.Info, error) {
	defer u.hold()
	key, opts := string(u.file.Path), objstore.PutOptions{Cond: u.cond, Meta: u.file.Meta(m.opt.Writer, "")}
	opts.Meta[metaWrite], opts.Meta[metaLine] = m.writeID(), u.line
	if u.parts == nil {
		return m.opt.Store.Put(ctx, key, bytes.NewReader(u.data), u.file.Size, opts)
	}
	return m.opt.Store.Assemble(ctx, key, u.cond.If, u.parts, nil, opts)
}

// beside keeps what was written to p under another name, since somebody else's
// version stands there; the node makes way for that, which look brings into the
// tree, in its turn: what is announced meanwhile is newer than the store's answer.
// It returns errStale.
func (m *FS) beside(ctx context.Context, f *file, p manifest.Path, look func(context.Context, manifest.Path) error) error {
	up, info, err := m.keepBeside(ctx, f, p)
	if err != nil {
		return fmt.Errorf("keep what was written to %s: %w", p, err)
	}
	m.count.conflicts.Add(1)
	up.file.Rev = string(info.Rev)
	m.log.Warn("somebody else wrote the file first; kept beside", "path", p, "kept", up.file.Path)
	f.mu.Lock()
	f.lost = true
	f.dirty.Store(f.gen != up.gen)
	f.mu.Unlock()
	w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: up.file, Data: up.inline()}}
	m.take(w, false)
	if err := m.tell(ctx, w); err != nil {
		return err
	}
	if err := look(ctx, p); err != nil {
		m.log.Debug("version not looked up yet", "path", p, "err", err)
		m.doubt(string(p)) // what was written here still stands at the name
	}
	m.giveWay(f)
	return errStale
}

// giveWay takes the node of f from its name when the bucket has nothing for it:
// what was in the way of a new file has gone in the meantime.
func (m *FS) giveWay(f *file) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	if n := f.n; n.rev == "" && !n.is(detached) && !f.dirty.Load() {
		m.vanish(n)
		m.pruneHeld(n.parent)
	}
}

// keepBeside uploads the content of f under the name of a conflict, another one
// where that is taken by a conflict of the same millisecond.
func (m *FS) keepBeside(ctx context.Context, f *file, p manifest.Path) (*upload, objstore.Info, error) {
	now := time.Now()
	for attempt := range 10 {
		name := p.Conflict(now.Add(time.Duration(attempt) * time.Millisecond))
		if m.taken(name) {
			continue
		}
		up, err := m.content(ctx, f, name)
		if err != nil {
			return nil, objstore.Info{}, err
		}
		up.cond = objstore.Cond{Absent: true}
		up.sendAll(ctx, f.stage)
		info, err := up.send(ctx, m)
		if !errors.Is(err, objstore.ErrPrecondition) {
			return up, info, err
		}
	}
	return nil, objstore.Info{}, objstore.ErrPrecondition
}

// taken reports whether a file is at p, maybe on its way there.
func (m *FS) taken(p manifest.Path) bool {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	return m.tree.find(p) != nil
}

// sendAll leaves nothing to be copied from the former object, which is another
// key's.
func (u *upload) sendAll(ctx context.Context, s *stage) {
	off := int64(0)
	for i, part := range u.parts {
		if part.Body == nil {
			u.parts[i] = objstore.Part{Size: part.Size, Body: s.reader(ctx, off)}
		}
		off += part.Size
	}
}
