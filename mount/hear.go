package mount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// News is one thing that came over the bus.
type News struct {
	Commit *manifest.Event  // of a source
	Writes *manifest.Writes // of another mount
	Lost   bool             // something may have been missed
}

// Hear takes news, in the order of the bus. It does not wait for the store:
// what cannot be told from the news alone is looked up in the background, and
// opens wait for that.
func (m *FS) Hear(n News) {
	if !m.early.keep(n) {
		m.hear(n)
	}
}

func (m *FS) hear(n News) {
	switch {
	case n.Commit != nil:
		m.hearCommit(*n.Commit)
	case n.Writes != nil:
		for _, w := range n.Writes.Changes {
			m.take(w, false)
		}
	}
	if n.Lost {
		m.catchUpSoon()
	}
}

// hearCommit takes a commit that leads on from where its log was read to, and
// has the log read otherwise.
func (m *FS) hearCommit(e manifest.Event) {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.mu.Lock()
	pos := m.logs[e.Source]
	old := e.Epoch == pos.Epoch && e.Generation <= pos.Generation
	next := !old && e.Prev == pos.Generation && (e.Epoch == pos.Epoch || pos.Generation == 0) && e.Complete()
	if next {
		m.logs[e.Source] = manifest.Position{Epoch: e.Epoch, Generation: e.Generation, Commit: e.Commit}
	}
	m.mu.Unlock()
	switch {
	case next:
		m.takeCommit(e.Changes)
	case !old:
		m.catchUpSoon()
	}
}

func (m *FS) takeCommit(changes []manifest.Change) {
	for _, c := range changes {
		m.take(manifest.Write{Change: c}, true)
	}
}

// take brings one change of others into the tree, when it leads on from what
// the tree has; otherwise the bucket is asked. A change from a source's log
// does not say what it replaces: it follows what came from the log before.
func (m *FS) take(w manifest.Write, fromLog bool) {
	m.count.heard.Add(1)
	if w.Op == manifest.Put && w.IsDir() || w.Op == manifest.Delete && w.Mode.IsDir() {
		m.takeDir(w, fromLog)
		return
	}
	m.tree.mu.Lock()
	n := m.tree.find(w.Path)
	if fromLog && n != nil && n.is(isDir) && w.Op == manifest.Delete {
		m.tree.mu.Unlock()
		m.takeDir(w, fromLog)
		return
	}
	leadsOn := m.leadsOn(n, w, fromLog)
	switch {
	case m.queue.busy(string(w.Path)) || !leadsOn:
		m.doubtHeld(w.Path, objstore.Rev(w.Rev))
		m.tree.mu.Unlock()
		return
	case w.Op == manifest.Delete:
		if n != nil {
			m.vanish(n)
		} else {
			m.removed.add(w.Path, objstore.Rev(w.Prev))
		}
	case w.Op == manifest.Put:
		n = m.install(w.File, fromLog)
	}
	var object blocks.Object
	if n != nil {
		object = n.object()
	}
	m.tree.mu.Unlock()
	if w.Op == manifest.Put && w.Data != nil && manifest.Sum(w.Data) == w.Hash && n != nil {
		m.opt.Cache.Put(object, w.Data)
	}
}

// leadsOn reports whether w follows what n is; nil is nothing. Where a revision has
// come again, that is not to be told from the revisions.
func (m *FS) leadsOn(n *node, w manifest.Write, fromLog bool) bool {
	switch {
	case n == nil && w.Op == manifest.Delete:
		return true
	case n == nil:
		return w.Prev == "" && !m.removed.has(w.Path, objstore.Rev(w.Rev))
	case n.is(isDir):
		return false
	case fromLog:
		return n.is(logged) || n.rev == objstore.Rev(w.Rev)
	case w.Op == manifest.Put && n.rev == objstore.Rev(w.Rev):
		return true
	}
	return n.rev == objstore.Rev(w.Prev) && !m.removed.has(w.Path, n.rev) && !m.removed.has(w.Path, objstore.Rev(w.Rev))
}

// takeDir takes a directory that was made or removed.
func (m *FS) takeDir(w manifest.Write, fromLog bool) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(w.Path)
	if w.Op == manifest.Delete {
		if n != nil && n.is(isDir) && n.kids.len() == 0 && !m.queue.busy(markerKey(w.Path)) {
			m.vanish(n)
		}
		return
	}
	if n == nil && m.queue.alters(markerKey(w.Path)) { // it was removed here
		m.doubtDir(w.Path)
		return
	}
	if n = m.mkdirs(w.Path, w.MTime); n == nil {
		return
	}
	if fromLog {
		n.flags |= logged
	}
	if n.perm != uint16(w.Mode.Perm()) {
		n.perm = uint16(w.Mode.Perm())
		m.tellAttr(n)
	}
	if !fromLog {
		n.flags |= marked
		n.keepXattrs(w.Xattrs)
		if m.queue.busy(markerKey(w.Path)) {
			m.doubtDir(w.Path) // who looks may have come too early
		}
	}
}

// install gives path f.Path the state f, which the bucket has. It returns nil
// when a directory stands there. The tree's mutex is held.
func (m *FS) install(f manifest.File, fromLog bool) *node {
	dir := m.mkdirs(f.Path.Dir(), f.MTime)
	if dir == nil {
		return nil
	}
	name := f.Path.Base()
	n := dir.kids.get(name)
	switch {
	case n == nil:
		n = m.tree.add(dir, name, 0)
		m.tellName(dir, name)
		m.replay.add(f.Path, echoMade)
	case n.is(isDir):
		return nil
	case n.rev == objstore.Rev(f.Rev) && n.is(isLink) == f.IsLink() && n.file != nil && n.file.dirty.Load():
		return n
	case n.rev == objstore.Rev(f.Rev) && n.is(isLink) == f.IsLink() && !n.contradicts(f):
		m.tellAttr(n)
	default:
		if n.rev != objstore.Rev(f.Rev) {
			m.removed.add(f.Path, n.rev)
		}
		n = m.tree.replace(n)
		m.tellName(dir, name)
		if m.replay.add(f.Path, echoWritten); m.replay.on {
			m.tree.ino++
			n.ino = m.tree.ino // or tail -F takes it for what it has open
		}
	}
	m.tree.bytes += f.Size - n.size
	n.set(f)
	n.flags &^= logged
	if fromLog {
		n.flags |= logged
	}
	return n
}

// mkdirs is the tree's, and tells the kernel of each directory that is new. The
// tree's mutex is held.
func (m *FS) mkdirs(p manifest.Path, mtime int64) *node {
	if p == "" || m.tree.find(p) != nil {
		return m.tree.mkdirs(p, mtime)
	}
	parent := m.mkdirs(p.Dir(), mtime)
	if parent == nil || !parent.is(isDir) {
		return nil
	}
	m.tellName(parent, p.Base())
	m.replay.add(p, echoDirMade)
	return m.tree.mkdirs(p, mtime)
}

// vanish removes n, which the bucket has no more. The tree's mutex is held.
func (m *FS) vanish(n *node) {
	m.tree.unlink(n)
	m.tellName(n.parent, n.name)
	if n.is(isDir) {
		m.replay.add(n.path(), echoDirRemoved)
		return
	}
	m.removed.add(n.path(), n.rev)
	m.replay.add(n.path(), echoRemoved)
}

// doubt has the bucket asked about keys.
func (m *FS) doubt(keys ...string) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	for _, key := range keys {
		switch p, dir, ok := splitKey(key); {
		case ok && dir:
			m.doubtDir(p)
		case ok:
			m.doubtHeld(p, anyRev)
		}
	}
}

// doubtHeld has the bucket asked about p, after our own changes of it. Until
// that is done nobody opens it. The tree's mutex is held.
func (m *FS) doubtHeld(p manifest.Path, announced objstore.Rev) {
	m.doubts[p]++
	j := m.queue.look(string(p))
	m.group.Go(func() {
		defer j.end()
		err := m.insist(j, func(ctx context.Context) error { return m.ask(ctx, j, p, announced) }, final)
		if err != nil && err != errOvertaken && m.ctx.Err() == nil {
			m.log.Warn("file not looked up in the store", "path", p, "err", err)
		}
		m.tree.mu.Lock()
		defer m.tree.mu.Unlock()
		if err == errOvertaken {
			m.doubtHeld(p, announced)
		}
		m.believeAgain(p)
	})
}

// errOvertaken says that a file is about to be changed here, after a look at it:
// the next look tells.
var errOvertaken = errors.New("it is being changed here")

// final reports whether err ends the attempts to look at a file.
func final(err error) bool { return err == errOvertaken || objstore.Lasting(err) }

// ask looks at what the bucket has at p and brings it into the tree, in j's
// turn. What is about to be changed here is in the tree already: an answer from
// before that would bring back what was removed, and is errOvertaken.
//
// A version other than the one that was announced is announced by us: its writer
// is about to, but what is read here must be found by all who open it later.
func (m *FS) ask(ctx context.Context, j *job, p manifest.Path, announced objstore.Rev) error {
	m.count.asked.Add(1)
	info, err := m.look(ctx, p)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(p)
	switch {
	case err != nil && !absent(err):
		return err
	case j.overtaken(string(p)):
		return errOvertaken
	case err == nil && n.precedes(info):
	case err != nil && n != nil && !n.is(isDir) && n.rev != "":
		m.vanish(n)
		m.pruneHeld(n.parent)
	case err == nil && n.differs(fileOf(p, info)):
		w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: fileOf(p, info)}}
		if n != nil {
			w.Prev = string(n.rev)
		}
		m.install(w.File, false)
		if announced != anyRev && announced != info.Rev && w.Prev != w.Rev {
			m.spread(ctx, w)
		}
	}
	return nil
}

// precedes reports whether what the bucket has is to be replaced by what was written
// to n, and no news: what n has taken the place of, or an upload of n of which no
// answer came. The tree's mutex is held.
func (n *node) precedes(info objstore.Info) bool {
	if n == nil || n.file == nil || !n.file.dirty.Load() {
		return false
	}
	over := n.heirAt(n.path())
	return wrote(n.file.line, info) || over.wrote(info) || over.rev() == info.Rev
}

// doubtDir has the bucket asked about the marker of p. The tree's mutex is held.
func (m *FS) doubtDir(p manifest.Path) {
	j := m.queue.look(markerKey(p))
	m.group.Go(func() {
		defer j.end()
		err := m.insist(j, func(ctx context.Context) error { return m.askDir(ctx, j, p) }, objstore.Lasting)
		if err != nil && m.ctx.Err() == nil {
			m.log.Warn("directory not looked up in the store", "path", p, "err", err)
		}
	})
}

// askDir is ask for a directory's marker.
func (m *FS) askDir(ctx context.Context, j *job, p manifest.Path) error {
	m.count.asked.Add(1)
	info, err := m.opt.Store.Head(ctx, markerKey(p))
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(p)
	switch {
	case err != nil && !absent(err):
		return err
	case j.overtaken(markerKey(p)):
	case err == nil:
		if n = m.mkdirs(p, info.ModTime.UnixNano()); n != nil {
			n.flags |= marked
		}
	case n != nil && n.is(isDir):
		n.flags &^= marked
		m.pruneHeld(n)
	}
	return nil
}

// prune removes directories that nothing speaks for.
func (m *FS) prune(dirs ...*node) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	for _, dir := range dirs {
		m.pruneHeld(dir)
	}
}

// pruneHeld removes dir, and what it stood in, as far as neither something in
// it, nor a marker, nor a log says that they are there. The tree's mutex is held.
func (m *FS) pruneHeld(dir *node) {
	for dir.parent != nil && !dir.is(detached|marked|logged) && dir.kids.len() == 0 && !m.queue.alters(markerKey(dir.path())) {
		m.vanish(dir)
		dir = dir.parent
	}
}

// anyRev stands for all revisions: none need be announced.
const anyRev objstore.Rev = "*"

// spread announces what the tree has already. Until that is done opens wait. The
// tree's mutex is held, and given away meanwhile.
func (m *FS) spread(ctx context.Context, w manifest.Write) {
	if m.opt.Bus == nil || m.opt.ReadOnly {
		return
	}
	m.doubts[w.Path]++
	m.tree.mu.Unlock()
	if err := m.opt.Bus.Announce(ctx, []manifest.Write{w}); err != nil {
		m.log.Debug("not announced yet", "err", err)
	}
	m.tree.mu.Lock()
	m.believeAgain(w.Path)
}

// believeAgain ends a doubt about p. The tree's mutex is held.
func (m *FS) believeAgain(p manifest.Path) {
	if m.doubts[p]--; m.doubts[p] == 0 {
		delete(m.doubts, p)
	}
}

// contradicts reports whether n cannot have the content of f, though it has its
// revision: a server that keeps objects as files (versitygw) may have described
// the version before by the revision of the next. The tree's mutex is held.
func (n *node) contradicts(f manifest.File) bool {
	return n.size != f.Size || !n.hash.IsZero() && !f.Hash.IsZero() && n.hash != f.Hash
}

// differs reports whether n, nil for nothing, is not f. The tree's mutex is held.
func (n *node) differs(f manifest.File) bool {
	return n == nil || n.rev != objstore.Rev(f.Rev) || n.file == nil && (n.size != f.Size || n.is(isLink) != f.IsLink())
}

// look describes the object at p. One that is news is looked at until two answers
// agree: a server that keeps objects as files (versitygw) may answer with the
// size of the version before and the revision of the next.
func (m *FS) look(ctx context.Context, p manifest.Path) (objstore.Info, error) {
	info, err := m.opt.Store.Head(ctx, string(p))
	m.tree.mu.RLock()
	n := m.tree.find(p)
	known := n != nil && n.rev == info.Rev && n.size == info.Size
	m.tree.mu.RUnlock()
	for range 5 {
		if err != nil || known {
			break
		}
		before := info
		info, err = m.opt.Store.Head(ctx, string(p))
		known = before.Rev == info.Rev && before.Size == info.Size
	}
	return info, err
}

// fileOf returns what an object says of itself.
func fileOf(p manifest.Path, info objstore.Info) manifest.File {
	f := manifest.File{Path: p, Mode: 0o644, Size: info.Size, MTime: info.ModTime.UnixNano(), Rev: string(info.Rev)}
	f.TakeMeta(info.Meta)
	return f
}

// tell announces what was made durable here, and notes it for those who are
// away. A bus that is away keeps it; the bucket has it in any case.
func (m *FS) tell(ctx context.Context, changes ...manifest.Write) error {
	m.note(changes)
	if m.opt.Bus == nil {
		return nil
	}
	if err := m.opt.Bus.Announce(ctx, changes); err != nil {
		m.log.Debug("not announced yet", "err", err)
	}
	return nil
}

// note remembers changes for the next note in the bucket.
func (m *FS) note(changes []manifest.Write) {
	if m.opt.Notes == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.unnoted) == 0 {
		m.since = time.Now()
	}
	for _, w := range changes {
		w.Data = nil
		m.unnoted = append(m.unnoted, w)
	}
	wake(m.noting)
}

// keepNotes writes what mounts wrote into the bucket, a little after.
func (m *FS) keepNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.noting:
		}
		if pause(ctx, noteAfter) != nil {
			return
		}
		if err := m.writeNote(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("writes not noted, trying again", "err", err)
			if pause(ctx, 5*time.Second) != nil {
				return
			}
		}
	}
}

// writeNotes notes all that waits for it now; more may come meanwhile.
func (m *FS) writeNotes(ctx context.Context) error {
	m.mu.Lock()
	left := len(m.unnoted)
	m.mu.Unlock()
	for ; left > 0; left -= maxNote {
		if err := m.writeNote(ctx); err != nil {
			return fmt.Errorf("note what was written: %w", err)
		}
	}
	return nil
}

// maxNote is how many changes one note has at the most.
const maxNote = 5000

func (m *FS) writeNote(ctx context.Context) error {
	m.noter.Lock()
	defer m.noter.Unlock()
	m.mu.Lock()
	batch := m.unnoted[:min(len(m.unnoted), maxNote)]
	m.noteSeq++
	began, since := time.Now(), m.since
	w := manifest.Writes{Writer: m.opt.Writer, Session: m.opt.Life, Seq: m.noteSeq, Time: began.UTC(), Changes: batch}
	m.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := m.opt.Notes.Add(ctx, w)
	if err == nil && time.Since(since) > noteSoon {
		m.sayAgain(ctx, batch)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		if m.unnoted = m.unnoted[len(batch):]; len(batch) < maxNote { // else what is left is as old
			m.since = began
		}
	}
	if len(m.unnoted) > 0 {
		wake(m.noting)
	}
	return err
}

// sayAgain announces what was noted so late that a mount may have looked for it in
// vain which did not hear of it, since the bus came back to it meanwhile. What has
// been changed since is told for itself.
func (m *FS) sayAgain(ctx context.Context, noted []manifest.Write) {
	if m.opt.Bus == nil {
		return
	}
	var still []manifest.Write
	m.tree.mu.RLock()
	for _, w := range noted {
		n := m.tree.find(w.Path)
		if w.Op == manifest.Delete && n == nil || w.Op == manifest.Put && n != nil && n.rev == objstore.Rev(w.Rev) {
			still = append(still, w)
		}
	}
	m.tree.mu.RUnlock()
	if len(still) == 0 {
		return
	}
	if err := m.opt.Bus.Announce(ctx, still); err != nil {
		m.log.Debug("not announced again yet", "err", err)
	}
}
