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
		err := m.insist(j, change)
		if err == nil || !errors.Is(err, context.Canceled) {
			m.journal.end(id)
		}
		if err != nil && m.ctx.Err() == nil {
			m.count.failed.Add(1)
			m.log.Error("change refused by the store", "op", e.Op, "key", e.Key, "err", err)
			m.doubt(keys...)
		}
	})
}

// insist waits for j's turn and makes change until it holds.
func (m *FS) insist(j *job, change func(context.Context) error) error {
	if err := j.turn(m.ctx); err != nil {
		return err
	}
	defer j.yield()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		err := change(m.ctx)
		if err == nil || objstore.Lasting(err) || m.ctx.Err() != nil {
			return err
		}
		m.log.Warn("change waits for the store", "err", err)
		if err := pause(m.ctx, wait); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
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
// it. The tree's mutex is held.
func (m *FS) keep(dir *node) {
	if dir.kids.len() == 0 {
		m.mark(dir)
	}
}

// unlink removes the file n. The tree's mutex is held.
func (m *FS) unlink(n *node) {
	key, rev, f := string(n.path()), n.rev, n.file // it is there when its turn comes
	m.tree.unlink(n)
	m.removed.add(n.path(), rev)
	n.flags |= removed
	n.parent.mtime = time.Now().UnixNano()
	m.keep(n.parent)
	m.removeObject(key, rev, f)
}

// removeObject deletes what the bucket has at key, after what is on its way
// there. Whoever has the file open keeps its content. The tree's mutex is held.
func (m *FS) removeObject(key string, rev objstore.Rev, f *file) {
	if rev == "" && !m.queue.busy(key) {
		return // it never was there
	}
	if f != nil && f.handles == 0 {
		f = nil
	}
	m.later(entry{Op: opDelete, Key: key, Rev: string(rev)}, func(ctx context.Context) error {
		if f != nil {
			m.rescue(ctx, f)
		}
		if err := m.opt.Store.Delete(ctx, key); err != nil {
			return err
		}
		return m.tell(ctx, manifest.Write{Prev: string(rev),
			Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(key)}}})
	}, key)
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

// maxRename bounds how many files a directory may have below it to be renamed;
// with more, mv copies.
const maxRename = 100_000

// rename moves n to name in dir, in place of what is there. The tree's mutex is
// held.
func (m *FS) rename(n *node, dir *node, name string) {
	victim := dir.kids.get(name)
	moved := m.objects(n)
	from := n.parent
	m.tree.unlink(n)
	var prev objstore.Rev
	var open *file
	if victim != nil {
		prev, open = victim.rev, victim.file
		m.tree.unlink(victim)
		victim.flags |= removed
	}
	n.name = name
	m.tree.link(dir, n)
	now := time.Now().UnixNano()
	from.mtime, dir.mtime = now, now
	m.keep(from)
	m.inherit(n, prev)
	for _, o := range moved {
		m.moveObject(o, prev, open)
	}
	m.tellMoved(moved)
	if len(moved) == 0 && victim != nil && n.file == nil {
		m.removeObject(string(n.path()), prev, open)
	}
}

// inherit tells a file that is not in the bucket yet what its upload replaces.
func (m *FS) inherit(n *node, prev objstore.Rev) {
	if n.rev == "" && n.file != nil {
		n.file.heir.Store(&prev)
	}
}

// A move is an object whose file has another name.
type move struct {
	n    *node
	from string
}

// objects returns the objects of n and of all below it, before a move, and the
// markers that directories have or could have, parents first.
func (m *FS) objects(n *node) []move {
	var list []move
	note := func(n *node) {
		switch {
		case n.is(isDir):
			list = append(list, move{n, markerKey(n.path())})
		case n.rev != "" || m.queue.busy(string(n.path())):
			list = append(list, move{n, string(n.path())}) // there when its turn comes
		}
	}
	note(n)
	if n.is(isDir) {
		n.below(note)
	}
	return list
}

// moveObject brings o to the path of its node. Until it is there, the content is
// read where it was. The tree's mutex is held.
func (m *FS) moveObject(o move, prev objstore.Rev, victim *file) {
	n := o.n
	if n.is(isDir) {
		m.moveMarker(o)
		return
	}
	to := string(n.path())
	m.removed.add(manifest.Path(o.from), n.rev)
	if n.more == nil {
		n.more = &details{}
	} else {
		more := *n.more
		n.more = &more
	}
	if n.more.key == "" {
		n.more.key = o.from // else it is on its way there
	}
	m.later(entry{Op: opMove, Key: o.from, To: to}, func(ctx context.Context) error {
		if victim != nil {
			m.rescue(ctx, victim)
		}
		return m.carry(ctx, n, o.from, to, prev)
	}, o.from, to)
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
		_ = m.insist(j, func(ctx context.Context) error { return m.tell(ctx, gone...) }) // fails only when the mount ends
	})
}

// carry copies the object of n from one key to another, and removes the former.
func (m *FS) carry(ctx context.Context, n *node, from, to string, prev objstore.Rev) error {
	m.tree.mu.RLock()
	rev, f := n.rev, n.state()
	m.tree.mu.RUnlock()
	f.Path = manifest.Path(to)
	if rev == "" {
		return nil // what was on its way to the former name did not get there
	}
	info, err := m.opt.Store.Copy(ctx, to, from, rev, objstore.PutOptions{Meta: f.Meta(m.opt.Writer, "")})
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	m.arrived(n, from, to, info.Rev)
	f.Rev = string(info.Rev)
	if err := m.opt.Store.Delete(ctx, from); err != nil {
		return err
	}
	return m.tell(ctx, manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: string(prev)},
		manifest.Write{Prev: string(rev),
			Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(from)}}})
}

// arrived notes where the content of n is now.
func (m *FS) arrived(n *node, from, to string, rev objstore.Rev) {
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
	if n.more != nil && n.more.key == from && from != to {
		if n.more.key = to; n.is(detached) || string(n.path()) == to {
			n.more.key = ""
		}
	}
}
