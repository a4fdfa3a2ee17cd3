package mount

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// A scribe writes to a bucket beside a mount and remembers what others would
// announce of that.
type scribe struct {
	t     *testing.T
	store objstore.Store
	rev   objstore.Rev
}

// write writes the next version of "a" and returns what its writer announces.
func (s *scribe) write(content string) manifest.Write {
	s.t.Helper()
	f := manifest.File{Path: "a", Mode: 0o644, Size: int64(len(content)), Hash: manifest.Sum([]byte(content))}
	info, err := s.store.Put(s.t.Context(), "a", bytes.NewReader([]byte(content)), f.Size,
		objstore.PutOptions{Cond: objstore.Cond{If: s.rev}, Meta: f.Meta("other", "")})
	if err != nil {
		s.t.Fatal(err)
	}
	f.Rev = string(info.Rev)
	w := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: string(s.rev)}
	s.rev = info.Rev
	return w
}

// A listener is a bus that keeps what is announced.
type listener struct {
	mortalBus
	mu    sync.Mutex
	heard []manifest.Write
}

func (l *listener) Announce(_ context.Context, changes []manifest.Write) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, changes...)
	return nil
}

// written opens "a" of m for writing and writes to it, as far as a close.
func written(t *testing.T, m *FS, content string) *file {
	t.Helper()
	m.tree.mu.Lock()
	n := m.tree.find("a")
	m.tree.take(n)
	f := m.openFile(n, true)
	m.tree.mu.Unlock()
	if err := m.truncate(t.Context(), f, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.write(t.Context(), f, []byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func (m *FS) revAt(p manifest.Path) string {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	return string(m.tree.find(p).rev)
}

// TestConflictLooksInTurn closes a file that another version was put in the place
// of. The store is asked what that is, answers, and has newer ones announced
// before the answer is there: the tree does not go back to it, and nobody else is
// told to.
func TestConflictLooksInTurn(t *testing.T) {
	s := slowHead{looked: make(chan struct{}, 16), leave: make(chan struct{})}
	m, was := mounted(t, func(store objstore.Store) objstore.Store { s.Store = store; return s })
	bus := &listener{}
	m.opt.Bus = bus
	others := &scribe{t, s.Store, objstore.Rev(was.Rev)}

	f := written(t, m, "mine")
	m.take(others.write("first"), false)
	second := others.write("second")
	closed := make(chan error)
	go func() { closed <- m.flush(t.Context(), f) }()
	<-s.looked // and has found the second
	s.leave <- struct{}{}
	<-s.looked // and again: two answers agree
	third := others.write("third")
	m.take(second, false)
	m.take(third, false)
	close(s.leave)
	if err := <-closed; !errors.Is(err, errStale) {
		t.Fatalf("the close of what came second: %v", err)
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.revAt("a"); got != third.Rev {
		t.Errorf("the tree has revision %q, the bucket %q", got, third.Rev)
	}
	for _, w := range bus.heard {
		if w.Prev == third.Rev {
			t.Errorf("announced that revision %q followed the last, %q", w.Rev, third.Rev)
		}
	}
}

// TestLookOvertakenByMode has a file's mode changed while the store is asked what
// others wrote to it: the answer is not taken, and nobody opens the version before
// until there is another one.
func TestLookOvertakenByMode(t *testing.T) {
	var bucket *storetest.Memory
	s := slowHead{looked: make(chan struct{}, 16), leave: make(chan struct{})}
	m, was := mounted(t, func(store objstore.Store) objstore.Store {
		bucket = store.(*storetest.Memory)
		s.Store = store
		return s
	})
	m.opt.Bus = &mortalBus{}
	m.trust.Store(true)
	others := &scribe{t, bucket, objstore.Rev(was.Rev)}
	changing, change := make(chan struct{}, 1), make(chan struct{})
	bucket.Before = func(op objstore.Op, _ string) error {
		if op == objstore.OpCopy {
			changing <- struct{}{}
			<-change
		}
		return nil
	}
	others.write("first")
	second := others.write("second")
	m.take(second, false) // it does not lead on
	<-s.looked
	mode := uint32(0o600)
	m.tree.mu.Lock()
	before := m.tree.find("a")
	m.tree.take(before)
	m.change(before, &mode, nil)
	m.tree.mu.Unlock()
	m.attrsNow()
	close(s.leave)
	<-changing // so the answer was there
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.believe(ctx, before); err == nil {
		t.Error("the version before is believed")
	}
	close(change)
	if err := m.believe(t.Context(), before); !errors.Is(err, errStale) {
		t.Errorf("the version before, after the change: %v", err)
	}
	if got := m.revAt("a"); got != second.Rev {
		t.Errorf("the tree has revision %q, the bucket %q", got, second.Rev)
	}
}

// TestConflictLooksAgain has the store fail while it is asked what stands in the
// place of a conflict: what was written here is not left at the name.
func TestConflictLooksAgain(t *testing.T) {
	var bucket *storetest.Memory
	m, was := mounted(t, func(store objstore.Store) objstore.Store { bucket = store.(*storetest.Memory); return store })
	others := &scribe{t, bucket, objstore.Rev(was.Rev)}
	f := written(t, m, "mine")
	first := others.write("first")
	var kept, away atomic.Bool
	bucket.Before = func(op objstore.Op, key string) error {
		if op == objstore.OpPut && key != "a" && !kept.Swap(true) {
			away.Store(true) // it is a conflict by now
		}
		if op == objstore.OpHead && away.Load() {
			return errors.New("away")
		}
		return nil
	}
	if err := m.flush(t.Context(), f); !errors.Is(err, errStale) {
		t.Fatalf("flush: %v", err)
	}
	away.Store(false)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.revAt("a"); got != first.Rev {
		t.Errorf("the tree has revision %q, the bucket %q", got, first.Rev)
	}
}

// A drawer is a bucket that takes whatever is put into it.
type drawer struct{ manifest.Bucket }

func (drawer) Create(context.Context, string, []byte) (string, error) { return "1", nil }

// TestLateNoteIsSaidAgain notes two writes so late that a mount may have looked for
// the note in vain: the one that still counts is announced again. What is noted in
// time is not.
func TestLateNoteIsSaidAgain(t *testing.T) {
	m, a := mounted(t, func(store objstore.Store) objstore.Store { return store })
	bus := &listener{}
	m.opt.Bus, m.opt.Notes = bus, manifest.NewNotes(drawer{})
	put := func(f manifest.File) manifest.Write {
		return manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}}
	}
	replaced := a
	replaced.Rev = "before"
	m.note([]manifest.Write{put(replaced), put(a)})
	m.since = time.Now().Add(-time.Hour)
	if err := m.writeNote(t.Context()); err != nil || len(bus.heard) != 1 || bus.heard[0].Rev != a.Rev {
		t.Errorf("said again: %v; %v", bus.heard, err)
	}
	bus.heard = nil
	m.note([]manifest.Write{put(a)})
	m.since = time.Now().Add(time.Hour) // however slow the machine is
	if err := m.writeNote(t.Context()); err != nil || len(bus.heard) > 0 {
		t.Errorf("noted in time and said again: %v; %v", bus.heard, err)
	}
}
