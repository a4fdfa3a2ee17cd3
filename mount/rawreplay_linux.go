package mount

import "github.com/hanwen/go-fuse/v2/fuse"

// What the replaying thread asks is answered from the tree, and changes nothing.

// lookupAgain shows the thread what it is about to make as not there, and what
// it is about to remove as there.
func (r *raw) lookupAgain(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	dir := r.node(h.NodeId)
	if dir == nil {
		return fuse.ENOENT
	}
	n, e := dir.kids.get(name), r.m.replay.at(dir, name)
	switch {
	case e == nil:
	case e.kind == echoMade || e.kind == echoDirMade:
		return fuse.ENOENT // for the kernel to ask for it
	case n == nil:
		n = e.n
	}
	if n == nil {
		return fuse.ENOENT
	}
	r.entry(n, out)
	return fuse.OK
}

// made answers with what stands at name. The tree's mutex is held for writing,
// as for unmade.
func (r *raw) made(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := r.node(h.NodeId)
	if dir == nil || dir.kids.get(name) == nil {
		return fuse.ENOENT
	}
	r.entry(dir.kids.get(name), out)
	return fuse.OK
}

// unmade lets the thread remove what is not there.
func (r *raw) unmade(h *fuse.InHeader, name string) fuse.Status {
	dir := r.node(h.NodeId)
	if dir == nil || dir.kids.get(name) != nil {
		return fuse.ENOENT
	}
	return fuse.OK
}
