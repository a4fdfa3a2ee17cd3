package mount

import (
	"context"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// An announcing bus calls told while something is announced.
type announcing struct {
	mortalBus
	told func()
}

func (b *announcing) Announce(context.Context, []manifest.Write) error {
	b.told()
	return nil
}

// nobody is no process: what it waits for ends as if it had been killed.
const nobody = 1<<32 - 1

// TestCloseWaitsForAnnouncement closes a file while an fsync by another
// descriptor has its content in the bucket and not announced yet: this close must
// not return before that is done either.
func TestCloseWaitsForAnnouncement(t *testing.T) {
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return store })
	r := &raw{m: m}
	f := written(t, m, "mine")
	fh := m.handles.add(&handle{file: f, writes: true})
	killed := make(chan struct{})
	close(killed)
	flush := func() fuse.Status {
		return r.Flush(killed, &fuse.FlushIn{InHeader: fuse.InHeader{Caller: fuse.Caller{Pid: nobody}}, Fh: fh})
	}
	announced := false
	m.opt.Bus = &announcing{told: func() {
		announced = true
		if code := flush(); code != fuse.Status(syscall.EINTR) {
			t.Errorf("a close that cannot wait: %v before all is announced", code)
		}
	}}
	if err := m.flush(t.Context(), f); err != nil || !announced {
		t.Fatalf("flush: %v; announced: %t", err, announced)
	}
	if code := flush(); !code.Ok() {
		t.Errorf("a close of what is announced: %v", code)
	}
}
