package mount

import (
	"context"

	"github.com/skyagent/skyagent/objstore"
)

// renew brings a file that was opened before its lock was got up to date: what
// another worker wrote under the lock is what the holder must read. The store is
// asked, not the bus: a lock is for those who must not miss anything. What was
// written here stays, and its close tells.
func (m *FS) renew(ctx context.Context, f *file) error {
	if f.dirty.Load() {
		return nil
	}
	m.tree.mu.RLock()
	p, fresh := f.n.path(), f.n.rev == ""
	m.tree.mu.RUnlock()
	if fresh {
		return nil
	}
	if err := m.askInTurn(ctx, p); err != nil {
		return err
	}
	m.overtake(f)
	return m.kernel.settled(ctx) // also for an overtaking whose wait a signal ended
}

// overtake puts the node of f in the place of the one that stands at its name
// now, with its version.
func (m *FS) overtake(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := f.n
	if !n.is(detached) || n.is(removed) || f.dirty.Load() {
		return
	}
	now := m.tree.find(n.path())
	if now == nil || now.is(isDir) || now.rev == "" || now.more != nil && now.more.key != "" || now.file != nil && now.file.dirty.Load() {
		return
	}
	m.tree.unlink(now)
	n.more = nil
	n.set(now.state())
	n.flags = now.flags
	m.tree.link(now.parent, n)
	f.former, f.cond = n.object(), objstore.Cond{If: n.rev}
	if f.stage != nil {
		f.stage.close()
		f.stage = nil
	}
	f.version.Add(1)
	m.tellName(n.parent, n.name)
	m.tellContent(n)
}

// stepAside leaves the name of f to what the bucket has, since what was written
// here must not go there.
func (m *FS) stepAside(f *file) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := f.n
	switch {
	case n.is(detached):
	case f.former.Rev == "":
		m.vanish(n)
	default:
		state := n.state()
		state.Size, state.Rev, state.Hash = f.former.Size, string(f.former.Rev), f.former.Hash
		state.PartSize, state.Parts = f.former.PartSize, f.former.Parts
		fresh := m.tree.replace(n)
		m.tree.resize(fresh, state.Size)
		fresh.set(state)
		m.tellName(n.parent, n.name)
	}
}
