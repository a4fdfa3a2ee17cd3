package mount

import (
	"bytes"
	"context"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// A slowHead is a store whose look-ups wait for leave after they have looked.
type slowHead struct {
	objstore.Store
	looked chan struct{}
	leave  chan struct{}
}

func (s slowHead) Head(ctx context.Context, key string) (objstore.Info, error) {
	info, err := s.Store.Head(ctx, key)
	s.looked <- struct{}{}
	<-s.leave
	return info, err
}

// mounted returns an FS of a store that has an object "a", and that object's
// state. No kernel is asked.
func mounted(t *testing.T, wrap func(objstore.Store) objstore.Store) (*FS, manifest.File) {
	t.Helper()
	store := storetest.NewMemory()
	info, err := store.Put(t.Context(), "a", bytes.NewReader([]byte("content")), 7, objstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := wrap(store)
	cache, err := blocks.Open(blocks.Options{Dir: t.TempDir(), Store: wrapped, Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	m := New(Options{Store: wrapped, Cache: cache, State: t.TempDir(),
		Sources: func(context.Context) ([]string, error) { return nil, nil }})
	if err := m.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.shut)
	if err := m.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m, manifest.File{Path: "a", Mode: 0o644, Size: info.Size, Rev: string(info.Rev)}
}

func (m *FS) has(p manifest.Path) bool {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	return m.tree.find(p) != nil
}

func (m *FS) unlinkPath(p manifest.Path) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	m.unlink(m.tree.find(p))
}

// TestLookOvertaken removes a file while the store is asked about it: the
// answer, from before, does not bring it back.
func TestLookOvertaken(t *testing.T) {
	s := slowHead{looked: make(chan struct{}, 16), leave: make(chan struct{})}
	m, f := mounted(t, func(store objstore.Store) objstore.Store { s.Store = store; return s })
	other := f
	other.Rev += "-next" // news that do not lead on: the store is asked
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: other}, Prev: "unknown"}, false)
	<-s.looked
	m.unlinkPath("a")
	close(s.leave)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.has("a") {
		t.Error("a removed file is back")
	}
}

// TestLateNewsOfOthers finds in the store that a file is gone before the news of
// its creation come.
func TestLateNewsOfOthers(t *testing.T) {
	var bucket objstore.Store
	m, f := mounted(t, func(store objstore.Store) objstore.Store { bucket = store; return store })
	if err := bucket.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := m.askInTurn(t.Context(), "a"); err != nil || m.has("a") {
		t.Fatalf("a file that is gone from the store is there; %v", err)
	}
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}}, false)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.has("a") {
		t.Error("late news brought a removed file back")
	}
}

// TestLateNews removes a file before the news of its creation come.
func TestLateNews(t *testing.T) {
	m, f := mounted(t, func(store objstore.Store) objstore.Store { return store })
	m.unlinkPath("a")
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}}, false)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.has("a") {
		t.Error("late news brought a removed file back")
	}
	other := f
	other.Path, other.Rev = "b", "1"
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: other}}, false)
	if !m.has("b") {
		t.Error("news of another file were not taken")
	}
}

// TestLateNewsOfSameContent hears of a version that was there before, where the
// store names versions by their content, and then, late, of what had replaced it:
// the store decides.
func TestLateNewsOfSameContent(t *testing.T) {
	m, on := mounted(t, func(store objstore.Store) objstore.Store { return store })
	off := on
	off.Rev = "off"
	turn := func(prev, to manifest.File) {
		m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: to}, Prev: prev.Rev}, false)
	}
	turn(on, off)
	if got := m.revAt("a"); got != off.Rev || m.count.asked.Load() > 0 {
		t.Errorf("news that lead on were not taken: revision %q", got)
	}
	turn(off, on)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	turn(on, off)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.revAt("a"); got != on.Rev {
		t.Errorf("the tree has revision %q, the bucket %q", got, on.Rev)
	}
}

// TestMixedAnswer has the store describe a version by the revision of the next,
// which is then announced: whoever looks up the name gets another node, with
// nothing in the kernel's cache.
func TestMixedAnswer(t *testing.T) {
	m, f := mounted(t, func(store objstore.Store) objstore.Store { return store })
	mixed := f
	mixed.Rev, mixed.Hash = "next", manifest.Sum([]byte("before!"))
	install := func(f manifest.File) *node {
		m.tree.mu.Lock()
		defer m.tree.mu.Unlock()
		return m.install(f, false)
	}
	before := install(mixed)
	m.tree.mu.Lock()
	m.tree.take(before) // a look-up
	m.tree.mu.Unlock()
	next := mixed
	next.Hash = manifest.Sum([]byte("content"))
	m.take(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: next}, Prev: f.Rev}, false)
	m.tree.mu.RLock()
	now := m.tree.find("a")
	same := now == before
	m.tree.mu.RUnlock()
	if same || now.hash != next.Hash {
		t.Errorf("the node is the same: %t", same)
	}
	if again := install(next); again != now {
		t.Error("what is known already made another node")
	}
}

// A mixing store describes an object once by the revision of the next.
type mixing struct {
	objstore.Store
	next objstore.Rev
}

func (s *mixing) Head(ctx context.Context, key string) (objstore.Info, error) {
	info, err := s.Store.Head(ctx, key)
	if s.next != "" {
		info.Rev, s.next = s.next, ""
		info.Meta = map[string]string{metaLine: "ours"}
	}
	return info, err
}

// TestMixedAnswerIsNotOurs has the store describe the version of somebody else by
// what an earlier upload of a file said of itself: it is not written over.
func TestMixedAnswerIsNotOurs(t *testing.T) {
	s := &mixing{}
	m, a := mounted(t, func(store objstore.Store) objstore.Store { s.Store = store; return s })
	s.next = objstore.Rev(a.Rev)
	f := &file{line: "ours"}
	if err := m.succeeds(t.Context(), f, "a", errStale); err != errStale || f.cond.If != "" {
		t.Errorf("the next upload is to replace revision %q", f.cond.If)
	}
}
