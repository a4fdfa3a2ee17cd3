package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (r *raw) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	r.m.tree.mu.RLock()
	defer r.m.tree.mu.RUnlock()
	n := r.node(h.NodeId)
	if n == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	value, err := r.m.xattr(n, name)
	if err != nil {
		return 0, r.status(err)
	}
	return answer(dest, value)
}

func (r *raw) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	r.m.tree.mu.RLock()
	defer r.m.tree.mu.RUnlock()
	n := r.node(h.NodeId)
	if n == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	return answer(dest, []byte(n.xattrNames()))
}

// answer copies what was asked for, where it fits, and tells its size.
func answer(dest, b []byte) (uint32, fuse.Status) {
	if len(dest) < len(b) {
		return uint32(len(b)), fuse.ERANGE
	}
	return uint32(copy(dest, b)), fuse.OK
}

func (r *raw) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return r.setXattr(in.NodeId, name, append([]byte{}, value...), in.Flags)
}

func (r *raw) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.setXattr(h.NodeId, name, nil, 0)
}

func (r *raw) setXattr(id uint64, name string, value []byte, flags uint32) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	n := r.node(id)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return r.status(r.m.setXattr(n, name, value, flags))
}
