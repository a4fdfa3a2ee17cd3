package mount

import (
	"io/fs"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// TestRefusedByError opens a file while the store cannot be asked about it, and
// once more, later, in the version that came since: that an open failed is no
// reason to believe what the next one finds.
func TestRefusedByError(t *testing.T) {
	var bucket *storetest.Memory
	m, was := mounted(t, func(store objstore.Store) objstore.Store { bucket = store.(*storetest.Memory); return store })
	r, others := &raw{m: m}, &scribe{t, bucket, objstore.Rev(was.Rev)}
	open := func() fuse.Status {
		m.tree.mu.Lock()
		n := m.tree.find("a")
		m.tree.take(n)
		id := n.id
		m.tree.mu.Unlock()
		return r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: id, Caller: fuse.Caller{Pid: 7}}}, &fuse.OpenOut{})
	}
	bucket.Before = func(objstore.Op, string) error { return fs.ErrPermission }
	if code := open(); code != fuse.Status(syscall.EACCES) {
		t.Fatalf("an open that the store refuses: %v", code)
	}
	bucket.Before = nil
	m.take(others.write("first"), false)
	others.write("second")
	if code := open(); code != fuse.Status(syscall.ESTALE) {
		t.Errorf("an open of what is old: %v", code)
	}
	if code := open(); !code.Ok() {
		t.Errorf("an open of what has replaced it: %v", code)
	}
}
