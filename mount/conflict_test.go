package mount

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// TestConflictCounted has the store fail while it is to keep a write that came
// second: that is no conflict that was kept yet.
func TestConflictCounted(t *testing.T) {
	var bucket *storetest.Memory
	m, a := mounted(t, func(s objstore.Store) objstore.Store {
		bucket = s.(*storetest.Memory)
		return s
	})
	m.tree.mu.Lock()
	f := m.openFile(m.tree.find(a.Path), true)
	m.tree.mu.Unlock()
	if err := m.write(t.Context(), f, []byte("mine"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), "a", bytes.NewReader([]byte("theirs")), 6, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	away := errors.New("away")
	bucket.Before = func(op objstore.Op, key string) error {
		if op == objstore.OpPut && strings.Contains(key, "conflict") {
			return away
		}
		return nil
	}
	if err := m.flush(t.Context(), f); !errors.Is(err, away) {
		t.Fatalf("flush: %v", err)
	}
	if n := m.Status().Conflicts; n != 0 {
		t.Errorf("%d conflicts kept, want none", n)
	}
	bucket.Before = nil
	if err := m.flush(t.Context(), f); !errors.Is(err, errStale) {
		t.Fatalf("flush: %v", err)
	}
	if n := m.Status().Conflicts; n != 1 {
		t.Errorf("%d conflicts kept, want 1", n)
	}
}
