package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// Changes of names take effect in the tree at once, under its mutex, and then in
// the bucket: the kernel holds the directory while it waits for us.

// later does change in its turn among those of keys, again and again until it
// holds or will never, and notes it in the journal meanwhile.
func (m *FS) later(e entry, change func(context.Context) error, keys ...string) {
	j := m.queue.add(keys...)
	id, _ := m.journal.begin(e) // what is not noted is done all the same
	m.group.Go(func() {
		defer j.end()
		err := m.insist(j, change, func(err error) bool {
			if e.Op == opMkdir { // its end would take away the ground of what is made in it
				return refused(err) && j.overtaken(e.Key)
			}
			return hopeless(err)
		})
		if err == nil || !errors.Is(err, context.Canceled) {
			m.journal.end(id)
		}
		if err != nil && m.ctx.Err() == nil {
			m.giveUp(e, err)
			m.doubt(keys...)
		}
	})
}

// insist waits for j's turn and makes change until it holds, or fails with
// a final error.
func (m *FS) insist(j *job, change func(context.Context) error, final func(error) bool) error {
	if err := j.await(m.ctx); err != nil {
		return err
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		round, urged := m.queue.attempt()
		err := j.once(m.ctx, change)
		if err == nil || m.ctx.Err() != nil || final(err) {
			return err
		}
		m.hindered(j, err, round)
		if err := pauseUntil(m.ctx, wait, urged); err != nil {
			return err
		}
	}
}

// once makes change, with a slot.
func (j *job) once(ctx context.Context, change func(context.Context) error) error {
	if err := j.slot(ctx); err != nil {
		return err
	}
	defer j.yield()
	return change(ctx)
}

func pause(ctx context.Context, d time.Duration) error { return pauseUntil(ctx, d, nil) }

// pauseUntil is a pause that until ends early.
func pauseUntil(ctx context.Context, d time.Duration, until <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-until:
		return nil
	case <-t.C:
		return nil
	}
}

// create makes a new file in dir, which the bucket hears of when it is closed.
// The tree's mutex is held.
func (m *FS) create(dir *node, name string, perm uint32) *node {
	n := m.tree.add(dir, name, 0)
	n.perm, n.mtime = uint16(perm&0o777), time.Now().UnixNano()
	dir.mtime = n.mtime
	return n
}

// mkdir makes a directory. The tree's mutex is held.
func (m *FS) mkdir(dir *node, name string, perm uint32) *node {
	n := m.tree.add(dir, name, isDir)
	n.perm, n.mtime = uint16(perm&0o777), time.Now().UnixNano()
	dir.mtime = n.mtime
	m.mark(n)
	return n
}

// mark gives directory n an object, by which others see it while it is empty.
// The tree's mutex is held.
func (m *FS) mark(n *node) {
	if n.parent == nil || n.is(marked) {
		return
	}
	n.flags |= marked
	w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: n.state()}}
	key := markerKey(w.Path)
	meta := w.File.Meta(m.opt.Writer, "")
	m.later(entry{Op: opMkdir, Key: key, File: &w.File}, func(ctx context.Context) error {
		if _, err := m.opt.Store.Put(ctx, key, bytes.NewReader(nil), 0, objstore.PutOptions{Meta: meta}); err != nil {
			return err
		}
		return m.tell(ctx, w)
	}, key)
}

// rmdir removes directory n, which is empty. The tree's mutex is held.
func (m *FS) rmdir(n *node) {
	p := n.path()
	m.tree.unlink(n)
	n.parent.mtime = time.Now().UnixNano()
	m.keep(n.parent)
	w := manifest.Write{Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: p, Mode: fs.ModeDir}}}
	key := markerKey(p)
	m.later(entry{Op: opDelete, Key: key}, func(ctx context.Context) error {
		if err := m.opt.Store.Delete(ctx, key); err != nil {
			return err
		}
		return m.tell(ctx, w)
	}, key)
}

// keep makes sure that a directory from which something goes does not go with
// it. In a former life it was kept then, if it was to be. The tree's mutex is held.
func (m *FS) keep(dir *node) {
	switch {
	case dir.kids.len() > 0:
	case m.resumes:
		m.pruneHeld(dir)
	default:
		m.mark(dir)
	}
}

// unlink removes the file n. The tree's mutex is held.
func (m *FS) unlink(n *node) {
	p, f, gone := n.path(), n.file, n.legacy()
	m.tree.unlink(n)
	m.removed.add(p, gone.rev())
	n.flags |= removed
	n.parent.mtime = time.Now().UnixNano()
	m.keep(n.parent)
	m.removeObject(string(p), gone, f)
	if f != nil { // what is on its way is known by its line to the entry of its removal
		m.journal.end(f.kept.Load())
	}
}

// forgo takes the content of n, which is about to be replaced, out of the journal,
// unless it is on its way already. The tree's mutex is held.
func (m *FS) forgo(n *node) {
	if n.file == nil || m.queue.busy(string(n.path())) {
		return
	}
	if id := n.file.kept.Load(); id != 0 {
		m.journal.end(id)
	}
}

// removeObject deletes what the bucket has at key, after what is on its way
// there. Whoever has the file open keeps its content. The tree's mutex is held.
func (m *FS) removeObject(key string, gone *heir, f *file) {
	rev := gone.rev()
	if rev == "" && !m.queue.busy(key) && !gone.strayed() {
		return // it never was there
	}
	if f != nil && f.handles == 0 {
		f = nil
	}
	began := time.Now()
	m.later(entry{Op: opDelete, Key: key, Rev: string(rev), Line: gone.lineage(), Write: gone.copying()}, func(ctx context.Context) error {
		if f != nil {
			m.rescue(ctx, f)
		}
		return m.deleteGone(ctx, key, gone, began)
	}, key)
}

func deletion(key string, rev objstore.Rev) manifest.Write {
	return manifest.Write{Prev: string(rev), Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(key)}}}
}

// late is how long after a change of a name the bucket is asked before it is made
// there: others may have written since.
const late = time.Second

// deleteGone deletes what was removed at began: what was on its way there is there
// by now.
func (m *FS) deleteGone(ctx context.Context, key string, gone *heir, began time.Time) error {
	m.tree.mu.RLock()
	rev := gone.rev()
	m.tree.mu.RUnlock()
	if stays, err := m.deleteOurs(ctx, key, rev, gone, began); stays || err != nil {
		return err
	}
	return m.tell(ctx, deletion(key, rev))
}

// deleteOurs deletes what was removed at began, which had revision rev, or is an
// upload of what is gone. Stores have no condition for that, so what is late looks
// first, and what knows no revision: a version that somebody else wrote since stays.
func (m *FS) deleteOurs(ctx context.Context, key string, rev objstore.Rev, gone *heir, began time.Time) (stays bool, err error) {
	if rev == "" || time.Since(began) > late {
		info, err := m.opt.Store.Head(ctx, key)
		switch {
		case absent(err):
			return false, nil
		case err != nil:
			return false, err
		case info.Rev != rev && !gone.wrote(info):
			m.log.Warn("somebody else wrote the file after it was removed here; it stays", "path", key)
			m.doubt(key)
			return true, nil
		}
	}
	return false, m.opt.Store.Delete(objstore.Once(ctx), key)
}

// rescue brings the content of f here before its object goes.
func (m *FS) rescue(ctx context.Context, f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.tree.mu.RLock()
	handles := f.handles
	m.tree.mu.RUnlock()
	if handles == 0 || f.former.Rev == "" {
		return
	}
	err := m.staged(f)
	if err == nil {
		err = f.stage.complete(ctx)
	}
	if err != nil {
		m.log.Warn("content of a removed file is lost to those who have it open", "key", f.former.Key, "err", err)
	}
}

// maxRename bounds how many files and directories a directory may have below it
// to be renamed; with more, mv copies.
const maxRename = 100_000

// rename moves n to name in dir, in place of what is there. The tree's mutex is
// held.
func (m *FS) rename(n *node, dir *node, name string) {
	victim := dir.kids.get(name)
	m.disinherit(n)
	moved, waiting := m.objects(n), m.waiting(n)
	from := n.parent
	m.tree.unlink(n)
	var over *heir
	var open *file
	if victim != nil {
		over = victim.legacy()
		open = victim.file
		m.forgo(victim)
		m.tree.unlink(victim)
		victim.flags |= removed
	}
	n.name = name
	m.tree.link(dir, n)
	now := time.Now().UnixNano()
	from.mtime, dir.mtime = now, now
	m.keep(from)
	if n.rev == "" && n.file != nil {
		n.file.heir = over
	}
	for _, w := range waiting {
		m.journal.rekey(w.file.kept.Load(), w.path(), w.heirAt(w.path()))
	}
	for _, o := range moved {
		m.moveObject(o, over, open)
	}
	m.tellMoved(moved)
	if len(moved) == 0 && victim != nil && n.file == nil {
		m.removeObject(string(n.path()), over, open)
	}
}

// waiting returns n and the files below it whose content is in the journal alone:
// no job on their keys will move it. The tree's mutex is held.
func (m *FS) waiting(n *node) []*node {
	var list []*node
	note := func(n *node) {
		if n.file != nil && n.file.kept.Load() != 0 && n.rev == "" && !m.queue.busy(string(n.path())) && !n.file.strayedTo(string(n.path())) {
			list = append(list, n)
		}
	}
	n.each(note)
	return list
}

// An heir is what a file replaces that got its name by a rename, before the
// bucket had it, or what is removed. What the bucket has of that is known only when
// its turn comes: it may have been on its way, too.
type heir struct {
	path   manifest.Path // where that stood; of no meaning elsewhere
	victim *node
	line   string // of its file
	stray  bool   // an upload of it may have got there, of which no answer came
	before *heir  // of the victim, should that not get there
}

// rev returns the revision of what is replaced; "" is nothing. The tree's mutex is
// held.
func (h *heir) rev() objstore.Rev {
	for ; h != nil; h = h.before {
		if h.victim.rev != "" {
			return h.victim.rev
		}
	}
	return ""
}

// legacy returns n and what it was to replace, before it goes from where it is. The
// tree's mutex is held.
func (n *node) legacy() *heir {
	p := n.path()
	return &heir{path: p, victim: n, line: n.file.lineage(), stray: n.file.strayedTo(string(p)), before: n.heirAt(p)}
}

// strayed reports whether the bucket may have what is replaced although nobody was
// told so.
func (h *heir) strayed() bool {
	for ; h != nil; h = h.before {
		if h.stray {
			return true
		}
	}
	return false
}

// lineage returns the line of what is replaced, "" where there is none.
func (h *heir) lineage() string {
	for ; h != nil; h = h.before {
		if h.line != "" {
			return h.line
		}
	}
	return ""
}

// copying returns the write-id of copies of what is replaced that are under way, ""
// where there are none. The tree's mutex is held.
func (h *heir) copying() string {
	if h == nil {
		return ""
	}
	return h.victim.copying()
}

// wrote reports whether the object that info is of is an upload of what is
// replaced.
func (h *heir) wrote(info objstore.Info) bool {
	for ; h != nil; h = h.before {
		if wrote(h.line, info) {
			return true
		}
	}
	return false
}

// wrote reports whether the object that info is of is an upload of the file of that
// line; "" is none.
func wrote(line string, info objstore.Info) bool { return line != "" && info.Meta[metaLine] == line }

// heirAt returns what n replaces at p; nil is nothing. The tree's mutex is held.
func (n *node) heirAt(p manifest.Path) *heir {
	if n.file == nil || n.file.heir == nil || n.file.heir.path != p {
		return nil
	}
	return n.file.heir
}

// disinherit removes, before n is moved, what it and the files below it were to
// replace where they are now: nothing will come there. The tree's mutex is held.
func (m *FS) disinherit(n *node) {
	n.each(func(n *node) {
		if n.is(isDir) || n.file == nil || n.rev != "" {
			return
		}
		if p := n.path(); !m.queue.busy(string(p)) {
			m.removeObject(string(p), n.heirAt(p), nil)
		}
	})
}

// A move is an object whose file has another name.
type move struct {
	n    *node
	from string
	left *heir // what n was to replace there
}

// objects returns the objects of n and of all below it, before a move, and the
// markers that directories have or could have, parents first.
func (m *FS) objects(n *node) []move {
	var list []move
	note := func(n *node) {
		switch {
		case n.is(isDir):
			list = append(list, move{n: n, from: markerKey(n.path())})
		case n.rev != "" || m.queue.busy(string(n.path())) || n.file.strayedTo(string(n.path())):
			list = append(list, move{n, string(n.path()), n.heirAt(n.path())}) // there when its turn comes
		}
	}
	n.each(note)
	return list
}

// moveObject brings o to the path of its node, over what stands there. Until it
// is there, the content is read where it was. The tree's mutex is held.
func (m *FS) moveObject(o move, over *heir, victim *file) {
	n := o.n
	if n.is(isDir) {
		m.moveMarker(o)
		return
	}
	c := &carriage{n: n, file: n.file, from: o.from, to: string(n.path()), left: o.left, over: over, began: time.Now(), id: n.copy(m.writeID())}
	if n.file != nil {
		c.kept = n.file.kept.Load()
	}
	if over != nil && string(over.path) != c.to {
		c.over = nil // of a directory's files, which stand over nothing
	}
	m.removed.add(manifest.Path(o.from), n.rev)
	if n.more == nil || n.more.key == "" { // else it is on its way there
		n.lie(o.from)
	}
	e := entry{Op: opMove, Key: c.from, To: c.to, Rev: string(n.rev), Line: n.file.lineage(), Write: c.id}
	e.Over, e.OverLine, e.OverWrite = string(c.over.rev()), c.over.lineage(), c.over.copying()
	m.later(e, func(ctx context.Context) error {
		if victim != nil {
			m.rescue(ctx, victim)
		}
		return m.carry(ctx, c)
	}, c.from, c.to)
}

// moveMarker gives a directory a marker under its new name, by which others know
// its mode, and removes that of the former one. The tree's mutex is held.
func (m *FS) moveMarker(o move) {
	had := o.n.is(marked)
	o.n.flags &^= marked | logged
	m.mark(o.n)
	if had {
		m.later(entry{Op: opDelete, Key: o.from}, func(ctx context.Context) error {
			return m.opt.Store.Delete(ctx, o.from)
		}, o.from)
	}
}

// tellMoved says that the former names of directories are gone, when all that
// was below them is: who hears of one that holds something keeps it. The tree's
// mutex is held.
func (m *FS) tellMoved(moved []move) {
	var gone []manifest.Write
	for _, o := range slices.Backward(moved) { // what is below goes first
		if name, dir := strings.CutSuffix(o.from, "/"); dir {
			gone = append(gone, manifest.Write{Change: manifest.Change{Op: manifest.Delete,
				File: manifest.File{Path: manifest.Path(name), Mode: fs.ModeDir}}})
		}
	}
	if len(gone) == 0 {
		return
	}
	j := m.queue.add(moved[0].from)
	m.group.Go(func() {
		defer j.end()
		_ = m.insist(j, func(ctx context.Context) error { return m.tell(ctx, gone...) }, objstore.Lasting) // fails only when the mount ends
	})
}

// A carriage brings the object of a file to its new key, in two steps, each of
// which may have to be tried again.
type carriage struct {
	n        *node
	file     *file // of n, when it was renamed; nil is none
	from, to string
	left     *heir // what n was to replace at from, should it not have got there
	over     *heir // what it replaces; nil is nothing
	began    time.Time
	id       string // of the copy
	kept     uint64 // of the file's content in the journal, when it was renamed

	rev    objstore.Rev   // at from
	copied manifest.Write // what is at to by now, or beside it
}

// carry copies the object to its new key, and removes the former.
func (m *FS) carry(ctx context.Context, c *carriage) error {
	if c.copied.Path == "" {
		if err := m.copyOver(ctx, c); err != nil || c.copied.Path == "" {
			return err
		}
	}
	m.takeAlong(c)
	stays, err := m.deleteOurs(ctx, c.from, c.rev, nil, c.began)
	switch {
	case err != nil:
		return err
	case stays:
		return m.tell(ctx, c.copied)
	}
	return m.tell(ctx, c.copied, deletion(c.from, c.rev))
}

// takeAlong gives what the journal promised of the file, before it was renamed, its
// new name: the move says it no longer once it is done.
func (m *FS) takeAlong(c *carriage) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	if c.kept == 0 || c.copied.Path != "" && string(c.copied.Path) != c.to {
		return
	}
	m.journal.carried(c.kept, c.from, manifest.Path(c.to), c.n.rev, c.over)
}

// copyOver makes the first step, if there is an object to be carried. Where
// somebody else wrote what is to be replaced, since the rename, it is copied
// beside that.
func (m *FS) copyOver(ctx context.Context, c *carriage) error {
	if err := m.recognise(ctx, c.n, c.file, c.from); err != nil {
		return err
	}
	f := m.stored(c.n, c.file)
	m.tree.mu.RLock()
	prev, lies := c.over.rev(), c.n.key()
	m.tree.mu.RUnlock()
	switch {
	case f.Rev == "": // what was on its way to the former name did not get there
		m.takeAlong(c)
		return m.deleteLeft(ctx, c)
	case lies != c.from: // others took it away
		m.doubt(c.to)
		return nil
	}
	f.Path, c.rev = manifest.Path(c.to), objstore.Rev(f.Rev)
	there, theirs, err := m.inTheWay(ctx, c, prev)
	if err != nil {
		return err
	}
	if theirs {
		if f.Path, err = m.freeName(ctx, f.Path); err != nil {
			return err
		}
		prev = ""
	}
	if there.Meta[metaWrite] != c.id {
		there, err = m.opt.Store.Copy(objstore.Once(ctx), string(f.Path), c.from, c.rev, objstore.PutOptions{Meta: m.copyMeta(f, c.id)})
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", c.from, f.Path, err)
	}
	m.arrived(c.n, f, c.from, there.Rev)
	f.Rev = string(there.Rev)
	c.copied = manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: string(prev)}
	if theirs {
		m.count.conflicts.Add(1)
		m.log.Warn("somebody else wrote the file that a rename was to replace; kept beside", "path", c.to, "kept", f.Path)
		m.doubt(c.to)
		m.take(c.copied, false)
	}
	return nil
}

// freeName returns a name for a conflict of p that no object has: two of one
// millisecond have two.
func (m *FS) freeName(ctx context.Context, p manifest.Path) (manifest.Path, error) {
	for at := time.Now(); ; at = at.Add(time.Millisecond) {
		name := p.Conflict(at)
		if _, err := m.opt.Store.Head(ctx, string(name)); absent(err) {
			return name, nil
		} else if err != nil {
			return "", fmt.Errorf("keep beside %s: %w", p, err)
		}
	}
}

// inTheWay looks, where a rename is late, at what stands where the object is carried
// to: others may have written that, or an attempt whose answer was lost. prev is
// the revision that is to be replaced.
func (m *FS) inTheWay(ctx context.Context, c *carriage, prev objstore.Rev) (there objstore.Info, theirs bool, err error) {
	if time.Since(c.began) <= late {
		return there, false, nil
	}
	there, err = m.opt.Store.Head(ctx, c.to)
	if absent(err) {
		return objstore.Info{}, false, nil
	}
	return there, err == nil && there.Rev != prev && there.Meta[metaWrite] != c.id && !c.over.wrote(there), err
}

// deleteLeft removes what would have been replaced at the former name.
func (m *FS) deleteLeft(ctx context.Context, c *carriage) error {
	if c.left == nil {
		return nil
	}
	return m.deleteGone(ctx, c.from, c.left, c.began)
}

// stored returns n as the bucket has it: what was written to it since counts not. f
// is the file that it had; nil is none.
func (m *FS) stored(n *node, f *file) manifest.File {
	m.tree.mu.RLock()
	if n.file != nil {
		f = n.file
	}
	m.tree.mu.RUnlock()
	if f != nil {
		f.mu.RLock()
		defer f.mu.RUnlock()
	}
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	state := n.state()
	if f != nil && f.former.Rev == n.rev {
		state.Size, state.Hash, state.PartSize, state.Parts = f.former.Size, f.former.Hash, f.former.PartSize, f.former.Parts
	}
	return state
}

// arrived notes that a copy from the key from has the content of n now, where and as
// state says. What was changed of that meanwhile follows.
func (m *FS) arrived(n *node, state manifest.File, from string, rev objstore.Rev) {
	to := string(state.Path)
	m.tree.mu.RLock()
	f := n.file
	m.tree.mu.RUnlock()
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.former.Key == from {
			f.former.Key, f.former.Rev = to, rev
			f.cond = objstore.Cond{If: rev}
			if f.stage != nil && f.stage.base != nil {
				f.stage.base.Close()
				f.stage.base = m.opt.Cache.Reader(f.former)
			}
		}
	}
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n.rev = rev
	if n.key() == from {
		n.lie(to)
	}
	if !n.is(detached) && (n.mtime != state.MTime || n.perm != uint16(state.Mode.Perm()) || n.xattrs() != state.Xattrs) {
		m.setAttrs(n)
	}
}
