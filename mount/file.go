package mount

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// A file is a node that is open, or whose content is not all in the bucket.
//
// It is in one of these states:
//
//	clean      not dirty: the bucket has it as former, which cond.If names; not in
//	           the journal; it ends with the last handle
//	new        dirty, cond.Absent: the bucket never had it, and has what heir says
//	           where a rename brought it over something
//	written    dirty, cond.If: the stage follows that revision
//
// A file that is dirty may be, besides,
//
//	promised   kept and stood are set: a close has returned for the content of gen
//	           asked, which the journal names as stood; with gen beyond that, what
//	           was written since is in a stage without a name, until its own close
//	in flight  upload is held: settle makes it clean, or leaves it written when gen
//	           has gone on; it goes where its name was when it took its turn, over
//	           what heir said then, and renames follow after it
//	stray      an upload had no answer: the bucket may have it at that key, where
//	           its line tells, whatever cond says
//
// and all may be
//
//	carried    the node's key is not its path: the bucket has former where the file
//	           was before a rename, and cond follows it when it arrives
//	removed    the node is, by a program here: the next upload is none
//	replaced   the node is detached otherwise: others' stands at the name, and the
//	           next upload goes beside, after which it is lost: the stage is not
//	           what former is
//	forfeit    a lock was lost: as replaced, from the next upload on
//
// TestModel holds files to this.
//
// Its mutex comes before the tree's: who holds the tree's never takes a file's.
type file struct {
	n       *node
	handles int // guarded by the tree's mutex
	writers int // of those; guarded by the tree's mutex

	version atomic.Uint64 // counts versions that it was given by renew
	forfeit atomic.Bool   // written under a lock that was lost: it goes beside

	heir  *heir  // what a new file's first upload replaces, after a rename; guarded by the tree's mutex
	stray string // a key that an upload may have reached, of which no answer came; guarded by the tree's mutex

	upload  gate                // held by the one that uploads; comes before mu
	attempt atomic.Pointer[job] // the last upload

	spare bool  // the upload is in the background, and leaves a half-written content alone; guarded by upload
	over  *heir // what the upload replaces when it is the first; guarded by upload

	mu     sync.RWMutex // guards what follows
	stage  *stage       // nil while nothing was written
	dirty  atomic.Bool  // the stage has what the bucket has not; only changed with mu held
	gen    uint64       // counts changes of the stage
	cond   objstore.Cond
	kept   atomic.Uint64 // number in the journal, with write-back; set with mu and the tree's mutex held
	stood  string        // the stage that the journal names
	asked  uint64        // the gen that a close with write-back has returned for
	line   string        // random: the object tells by it whose successor it is; set once, with mu and the tree's mutex held
	former blocks.Object // what the bucket has, as far as this file knows
	lost   bool          // somebody else was faster: what is written goes beside
}

// A gate lets one in at a time. Unlike at a mutex, nobody waits longer than he
// may: the one inside may wait for a store that hangs.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

// pending reports whether the bucket, or the others, may not know yet what f has.
// An upload is clean before it is announced.
func (f *file) pending() bool { return f.dirty.Load() || len(f.upload) > 0 }

// begin makes f a new file, which the bucket does not have.
func (f *file) begin() {
	f.cond, f.gen, f.line = objstore.Cond{Absent: true}, 1, rand.Text()
	f.dirty.Store(true)
}

// openFile returns the file of n, which is made when there is none, and counts
// a handle. The tree's mutex is held.
func (m *FS) openFile(n *node, writes bool) *file {
	f := n.file
	if f == nil {
		f = &file{n: n, former: n.object(), cond: objstore.Cond{If: n.rev}, upload: make(gate, 1)}
		n.file = f
	}
	f.handles++
	if writes {
		f.writers++
	}
	return f
}

// readAt reads what a handle sees: the stage where there is one.
func (f *file) readAt(ctx context.Context, clean *blocks.Reader, p []byte, off int64) (int, error) {
	f.mu.RLock()
	if f.stage != nil {
		defer f.mu.RUnlock()
		return f.stage.readAt(ctx, p, off)
	}
	f.mu.RUnlock()
	if clean == nil {
		return 0, io.EOF
	}
	return clean.ReadAt(ctx, p, off)
}

// staged makes sure that there is a stage. mu is held.
func (m *FS) staged(f *file) error {
	if f.stage != nil {
		return nil
	}
	var base *blocks.Reader
	if f.former.Rev != "" && f.former.Size > 0 {
		base = m.opt.Cache.Reader(f.former)
	}
	s, err := newStage(m.stages(), base, f.former.Size)
	if err != nil && base != nil {
		base.Close()
	}
	f.stage = m.counted(s)
	return err
}

// counted takes s, nil for none, into the sum of staged bytes.
func (m *FS) counted(s *stage) *stage {
	if s != nil {
		s.total = &m.count.staged
		s.count()
	}
	return s
}

// writable makes sure that there is a stage, and that nothing in the journal
// changes with it: until the next close a crash goes back to what the one before
// returned for. mu is held.
func (m *FS) writable(f *file) error {
	if err := m.staged(f); err != nil || f.stage.name == "" {
		return err
	}
	return f.stage.leave(m.stages())
}

func (m *FS) ensureStage(f *file) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.staged(f)
}

// empty throws the content of f away, which a write is about to replace. mu is held.
func (m *FS) empty(f *file) error {
	s, err := newStage(m.stages(), nil, 0)
	if err != nil {
		return err
	}
	if f.stage != nil {
		f.stage.close()
	}
	f.stage = m.counted(s)
	m.changed(f)
	return nil
}

// changed notes that the stage has changed, and shows it in the node. mu is held.
func (m *FS) changed(f *file) {
	f.dirty.Store(true)
	f.gen++
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	if f.line == "" {
		f.line = rand.Text()
	}
	m.tree.resize(f.n, f.stage.size)
	f.n.mtime = time.Now().UnixNano()
}

// write writes p at off.
func (m *FS) write(ctx context.Context, f *file, p []byte, off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := m.writable(f); err != nil {
		return err
	}
	err := f.stage.writeAt(ctx, p, off)
	if _, disk := ownErrno(err); err == nil || disk && off < f.stage.size {
		m.changed(f)
	}
	return err
}

// append writes p at the end, where that may be; the kernel thinks of off.
func (m *FS) append(ctx context.Context, f *file, p []byte, off int64) error {
	m.tree.mu.RLock()
	end := f.n.size
	m.tree.mu.RUnlock()
	err := m.write(ctx, f, p, end)
	if end != off {
		m.tree.mu.RLock()
		defer m.tree.mu.RUnlock()
		m.tellContent(f.n)
	}
	return err
}

// truncate makes f size bytes long.
func (m *FS) truncate(ctx context.Context, f *file, size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size == 0 {
		return m.empty(f)
	}
	if err := m.writable(f); err != nil {
		return err
	}
	if err := f.stage.truncate(ctx, size); err != nil {
		return err
	}
	m.changed(f)
	return nil
}

// zero makes n bytes from off on zero, as far as the file reaches.
func (m *FS) zero(ctx context.Context, f *file, off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := m.writable(f); err != nil {
		return err
	}
	if n = min(n, f.stage.size-off); n <= 0 {
		return nil
	}
	if err := f.stage.zero(ctx, off, n); err != nil {
		return err
	}
	m.changed(f)
	return nil
}

// atLeast makes f size bytes long unless it is longer.
func (m *FS) atLeast(ctx context.Context, f *file, size int64) error {
	m.tree.mu.RLock()
	enough := f.n.size >= size
	m.tree.mu.RUnlock()
	if enough {
		return nil
	}
	return m.truncate(ctx, f, size)
}

// closed takes a handle back. The last one gives the content to the cache, or
// leaves it to the upload that is under way.
func (m *FS) closed(f *file, writes bool) {
	m.tree.mu.Lock()
	f.handles--
	if writes {
		f.writers--
	}
	last := f.handles == 0
	m.tree.mu.Unlock()
	if last {
		m.retire(f)
	}
}

// retire ends f when nobody has it open and it is clean. Its content is what
// the bucket has: the next reader need not fetch it.
func (m *FS) retire(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.tree.mu.Lock()
	idle := f.handles == 0 && !f.dirty.Load() && f.n.file == f
	if idle {
		f.n.file = nil
		if f.n.is(removed) && f.n.rev == f.former.Rev {
			f.n.size = f.former.Size // which a rename that is under way carries
		}
	}
	object := f.former
	m.tree.mu.Unlock()
	if !idle || f.stage == nil {
		return
	}
	if !f.lost && object.Rev != "" && f.stage.whole() {
		if err := f.stage.giveTo(m.opt.Cache, object); err != nil {
			m.log.Debug("content not kept in the cache", "key", object.Key, "err", err)
		}
	}
	f.stage.close()
	f.stage = nil
}

// flush makes the bucket hold what was written, and tells the others. It
// returns errStale when somebody else wrote the file since it was opened.
func (m *FS) flush(ctx context.Context, f *file) error { return m.flushAs(ctx, f, false) }

// flushSpare is flush for nobody's close: it returns errHalf, and uploads
// nothing, while somebody is writing what he has not closed.
func (m *FS) flushSpare(ctx context.Context, f *file) error { return m.flushAs(ctx, f, true) }

func (m *FS) flushAs(ctx context.Context, f *file, spare bool) error {
	if err := f.upload.enter(ctx); err != nil {
		return err
	}
	defer f.upload.leave()
	defer m.dropStage(f)
	f.spare = spare
	if !f.dirty.Load() {
		return nil
	}
	if err := m.ensureStage(f); err != nil {
		return err
	}
	if f.forfeit.Load() {
		m.stepAside(f)
	}
	p, j, gone, removed := m.enqueue(f)
	defer j.end()
	f.attempt.Store(j)
	switch {
	case removed:
		return f.clean()
	case gone:
		return m.beside(ctx, f, p, m.askInTurn) // j is in nobody's way
	}
	if err := j.turn(ctx); err != nil {
		return err
	}
	defer j.yield()
	return m.put(ctx, f, j, p)
}

// enqueue takes f's place in the queue, so that a rename that comes in between
// knows of it. f.upload is held.
func (m *FS) enqueue(f *file) (p manifest.Path, j *job, gone, mine bool) {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	p = f.n.path()
	f.over = f.n.heirAt(p) // a rename that comes in between takes it away
	if f.n.is(detached) {
		return p, m.queue.add(), true, f.n.is(removed)
	}
	return p, m.queue.add(string(p)), false, false
}

// clean forgets what was written to a file that nobody can open any more.
func (f *file) clean() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty.Store(false)
	return nil
}

// put uploads the stage of f to p. f.upload is held, and it is j's turn.
func (m *FS) put(ctx context.Context, f *file, j *job, p manifest.Path) error {
	w, err := m.send(ctx, f, p)
	if second(err) {
		if err = m.succeeds(ctx, f, p, err); err == nil {
			w, err = m.send(ctx, f, p)
		}
	}
	switch {
	case second(err):
		return m.beside(ctx, f, p, func(ctx context.Context, p manifest.Path) error { return m.ask(ctx, j, p, "") })
	case err != nil:
		m.tree.mu.Lock()
		f.stray = string(p)
		m.tree.mu.Unlock()
		return fmt.Errorf("upload %s: %w", p, err)
	}
	m.count.uploads.Add(1)
	m.count.uploaded.Add(w.Size)
	return m.tell(ctx, w)
}

// send writes the content of f to p and gives the node its new state.
func (m *FS) send(ctx context.Context, f *file, p manifest.Path) (manifest.Write, error) {
	up, err := m.content(ctx, f, p)
	if err != nil {
		return manifest.Write{}, err
	}
	info, err := up.send(ctx, m)
	if second(err) {
		info, err = m.sentBefore(ctx, up, err)
	}
	if err != nil {
		return manifest.Write{}, err
	}
	up.file.Rev = string(info.Rev)
	w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: up.file, Data: up.inline()}, Prev: string(up.cond.If)}
	m.settle(f, up)
	return w, nil
}

// second reports whether err says that somebody else wrote first: the object is
// another one, or gone.
func second(err error) bool {
	return errors.Is(err, objstore.ErrPrecondition) || absent(err)
}

// absent reports whether err says that there is no such object: the bucket is
// there, and was asked.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrNoBucket)
}

// sentBefore finds out whether the object that stands in the way is this very
// upload, in an attempt whose answer was lost or in a former life. Where that is
// not to be found out, nothing is decided yet.
func (m *FS) sentBefore(ctx context.Context, up *upload, refused error) (objstore.Info, error) {
	return m.ours(ctx, string(up.file.Path), refused, func(info objstore.Info) bool {
		f := fileOf(up.file.Path, info)
		return !f.Hash.IsZero() && f.Hash == up.file.Hash && f.Size == up.file.Size && f.Mode == up.file.Mode &&
			f.MTime == up.file.MTime && f.Xattrs == up.file.Xattrs && wrote(up.line, info)
	})
}

// succeeds has f follow on what stands in the way at p, where an earlier upload of
// f wrote that, or of what f is to replace, whose answer was lost or came to nobody.
// Otherwise it returns refused.
func (m *FS) succeeds(ctx context.Context, f *file, p manifest.Path, refused error) error {
	f.mu.RLock()
	line, over := f.line, (*heir)(nil)
	if f.cond.Absent {
		over = f.over
	}
	f.mu.RUnlock()
	info, err := m.ours(ctx, string(p), refused, func(info objstore.Info) bool { return wrote(line, info) || over.wrote(info) })
	switch {
	case err != nil:
		return err
	case wrote(line, info):
		m.followOn(f, info)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cond = objstore.Cond{If: info.Rev}
	return nil
}

// ours describes the object at key if it is what is says, and returns refused
// otherwise. One that is must say so twice: its next version may be described by
// what is said of it, as look knows.
func (m *FS) ours(ctx context.Context, key string, refused error, is func(objstore.Info) bool) (objstore.Info, error) {
	var before objstore.Rev
	for range 5 {
		switch info, err := m.opt.Store.Head(ctx, key); {
		case err != nil && !absent(err):
			return objstore.Info{}, err
		case err != nil || !is(info):
			return objstore.Info{}, refused
		case info.Rev == before:
			return info, nil
		default:
			before = info.Rev
		}
	}
	return objstore.Info{}, refused
}

// recognise looks whether an upload of f has reached key, of which no answer came,
// and gives f and its node n that state then.
func (m *FS) recognise(ctx context.Context, n *node, f *file, key string) error {
	m.tree.mu.RLock()
	strayed := f.strayedTo(key)
	m.tree.mu.RUnlock()
	if !strayed {
		return nil
	}
	f.mu.RLock()
	line := f.line
	f.mu.RUnlock()
	info, err := m.ours(ctx, key, errNotOurs, func(info objstore.Info) bool { return wrote(line, info) })
	switch {
	case err == errNotOurs:
		return nil
	case err != nil:
		return err
	}
	m.followOn(f, info)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n.rev = info.Rev
	n.lie(key) // and not where a rename before found nothing
	return nil
}

// lineage returns the line of f, "" where there is none. The tree's mutex is held.
func (f *file) lineage() string {
	if f == nil {
		return ""
	}
	return f.line
}

// strayedTo reports whether an upload of f may have reached key. The tree's mutex
// is held.
func (f *file) strayedTo(key string) bool { return f != nil && f.stray == key }

// followOn has f follow on the object that info is of, which an upload of f wrote.
func (m *FS) followOn(f *file, info objstore.Info) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.former = blocks.Object{Key: info.Key, Rev: info.Rev, Size: info.Size, Hash: fileOf("", info).Hash}
	f.cond = objstore.Cond{If: info.Rev}
	m.rebase(f, false)
}

// errNotOurs says that an object is not what was looked for.
var errNotOurs = errors.New("another object")

// rebase says that the bucket has f.former now, in which the stage shows what it
// does not hold. mu is held.
func (m *FS) rebase(f *file, same bool) {
	if f.stage == nil {
		return
	}
	var base *blocks.Reader
	if f.stage.base != nil && f.former.Size > 0 {
		base = m.opt.Cache.Reader(f.former)
	}
	f.stage.rebase(base, f.former.Size, same)
}

// settle gives f and its node the state that the bucket has.
func (m *FS) settle(f *file, up *upload) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.former = blocks.Object{Key: string(up.file.Path), Rev: objstore.Rev(up.file.Rev), Size: up.file.Size,
		Hash: up.file.Hash, PartSize: up.file.PartSize, Parts: up.file.Parts}
	f.cond = objstore.Cond{If: f.former.Rev}
	same := f.gen == up.gen
	if same {
		f.dirty.Store(false)
	}
	m.rebase(f, same)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	f.stray = ""
	if string(f.n.rev) != up.file.Rev {
		m.removed.add(up.file.Path, f.n.rev)
	}
	mtime, perm, size, xattrs := f.n.mtime, f.n.perm, f.n.size, f.n.xattrs()
	f.n.set(up.file)
	f.n.lie(string(up.file.Path))
	f.n.keepXattrs(xattrs)
	sent := f.n.mtime == mtime && f.n.perm == perm && f.n.xattrs() == up.file.Xattrs
	f.n.mtime, f.n.perm, f.n.size = mtime, perm, size
	f.n.flags &^= logged
	if same && !sent {
		m.setAttrs(f.n) // changed during the upload
	}
}
