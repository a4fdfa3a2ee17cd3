package mount

import (
	"context"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// setAttrs has the bucket learn n's mode and time, which changed without its
// content: a little later, since more may follow. What is written anyway takes
// them along. The tree's mutex is held.
func (m *FS) setAttrs(n *node) {
	if n.is(isDir) {
		if n.parent != nil {
			n.flags &^= marked
			m.mark(n)
		}
		return
	}
	if n.rev == "" || n.file != nil && n.file.dirty.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.attrs) == 0 {
		m.group.Go(func() {
			_ = pause(m.ctx, attrAfter)
			m.attrsNow()
		})
	}
	m.attrs[n] = struct{}{}
}

// attrsNow sends the modes and times that wait.
func (m *FS) attrsNow() {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	m.mu.Lock()
	waiting := m.attrs
	m.attrs = map[*node]struct{}{}
	m.mu.Unlock()
	for n := range waiting {
		if n.is(detached) || n.more != nil && n.more.key != "" || n.file != nil && n.file.dirty.Load() {
			continue // gone, or taken along by what is under way
		}
		key := n.key()
		f, c := n.state(), &retouch{n: n, key: key, id: n.copy(m.writeID())}
		m.later(entry{Op: opPut, Key: key, File: &f}, func(ctx context.Context) error { return m.sendAttrs(ctx, c) }, key)
	}
}

// A retouch copies the object of n at key onto itself.
type retouch struct {
	n     *node
	key   string
	id    string // of the copy
	tried bool   // it may be done
}

// sendAttrs makes c, with the metadata that the node has when its turn has come.
func (m *FS) sendAttrs(ctx context.Context, c *retouch) error {
	m.tree.mu.RLock()
	f, dirty := c.n.state(), c.n.file != nil && c.n.file.dirty.Load()
	elsewhere := c.n.rev == "" || c.n.key() != c.key
	m.tree.mu.RUnlock()
	f.Path = manifest.Path(c.key)
	switch { // what is under way takes it along
	case elsewhere:
		return nil
	case dirty:
		return m.retouched(ctx, c, f)
	}
	c.tried = true
	info, err := m.opt.Store.Copy(ctx, c.key, c.key, objstore.Rev(f.Rev), objstore.PutOptions{Meta: m.copyMeta(f, c.id)})
	if second(err) {
		info, err = m.copied(ctx, c.key, c.id, err)
	}
	if err != nil {
		return err
	}
	m.arrived(c.n, f, c.key, info.Rev)
	w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: f.Rev}
	w.Rev = string(info.Rev)
	return m.tell(ctx, w)
}

// retouched has what is written follow on an attempt at c of which no answer came.
func (m *FS) retouched(ctx context.Context, c *retouch, f manifest.File) error {
	if !c.tried {
		return nil
	}
	info, err := m.copied(ctx, c.key, c.id, errNotOurs)
	switch {
	case err == errNotOurs:
		return nil
	case err == nil:
		m.arrived(c.n, f, c.key, info.Rev)
	}
	return err
}

// metaWrite names one write, or all attempts at it.
const metaWrite = "write-id"

// copyMeta returns the metadata of a copy that has the state f.
func (m *FS) copyMeta(f manifest.File, id string) map[string]string {
	meta := f.Meta(m.opt.Writer, "")
	meta[metaWrite] = id
	return meta
}

// copied finds out whether what stands at key is the copy of that id, in an attempt
// whose answer was lost; otherwise it returns refused.
func (m *FS) copied(ctx context.Context, key, id string, refused error) (objstore.Info, error) {
	return m.ours(ctx, key, refused, func(info objstore.Info) bool { return info.Meta[metaWrite] == id })
}

// chmod and its like change what is given of n. The tree's mutex is held.
func (m *FS) change(n *node, perm *uint32, mtime *time.Time) {
	if perm != nil {
		n.perm = uint16(*perm & 0o777)
	}
	if mtime != nil {
		n.mtime = mtime.UnixNano()
	}
	m.setAttrs(n)
}
