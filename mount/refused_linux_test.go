package mount

import (
	"context"
	"io/fs"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/skyagent/skyagent/manifest"
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

// TestOpenOfRenewed opens a file that a lock has brought to a newer version: the
// kernel's pages may be those of the version before.
func TestOpenOfRenewed(t *testing.T) {
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return store })
	r := &raw{m: m}
	m.tree.mu.Lock()
	n := m.tree.find("a")
	m.tree.take(n)
	f := m.openFile(n, false)
	m.tree.mu.Unlock()
	open := func() *fuse.OpenOut {
		var out fuse.OpenOut
		if code := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: n.id}}, &out); !code.Ok() {
			t.Fatal(code)
		}
		return &out
	}
	if open().OpenFlags&fuse.FOPEN_KEEP_CACHE == 0 {
		t.Error("pages of a version that stays are not kept")
	}
	f.version.Add(1)
	if open().OpenFlags&fuse.FOPEN_KEEP_CACHE != 0 {
		t.Error("pages of the version before are kept")
	}
}

// A slowBus has nothing for who waits less than a second, and then news.
type slowBus struct {
	mortalBus
	news func()
}

func (b *slowBus) Fence(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < time.Second {
		return context.DeadlineExceeded
	}
	b.news()
	return nil
}

// TestMissWaitsForTheBus looks for a file that another mount has just made, while
// the bus is slow.
func TestMissWaitsForTheBus(t *testing.T) {
	m, a := mounted(t, func(store objstore.Store) objstore.Store { return store })
	made := a
	made.Path = "b"
	m.opt.Bus = &slowBus{news: func() {
		m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: made}}, false)
	}}
	m.trust.Store(true)
	r, out := &raw{m: m}, fuse.EntryOut{}
	if code := r.Lookup(nil, &fuse.InHeader{NodeId: rootID}, "b", &out); !code.Ok() || out.NodeId == 0 {
		t.Errorf("a file that was made: node %d, %v", out.NodeId, code)
	}
}

// TestMissInDoubt looks for a file that was removed and is back with the same
// revision, while the store is asked whether it is.
func TestMissInDoubt(t *testing.T) {
	s := slowHead{looked: make(chan struct{}, 16), leave: make(chan struct{})}
	m, a := mounted(t, func(store objstore.Store) objstore.Store { s.Store = store; return s })
	m.opt.Bus = &mortalBus{}
	m.trust.Store(true)
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: "a"}}, Prev: a.Rev}, false)
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: a}}, false)
	<-s.looked
	r, out := &raw{m: m}, fuse.EntryOut{}
	answered := make(chan fuse.Status, 1)
	go func() { answered <- r.Lookup(nil, &fuse.InHeader{NodeId: rootID}, "a", &out) }()
	asking := func() int {
		m.queue.mu.Lock()
		defer m.queue.mu.Unlock()
		return len(m.queue.open)
	}
	for asking() < 2 && len(answered) == 0 {
		runtime.Gosched()
	}
	close(s.leave)
	if code := <-answered; !code.Ok() || out.NodeId == 0 {
		t.Errorf("a file that is there: node %d, %v", out.NodeId, code)
	}
}
