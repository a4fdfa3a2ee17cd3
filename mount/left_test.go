package mount

import (
	"errors"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// TestReleaseAll ends a mount before the kernel has said that a file is closed
// whose close has failed: it is brought to the bucket all the same.
func TestReleaseAll(t *testing.T) {
	var bucket *storetest.Memory
	m, _ := mounted(t, func(s objstore.Store) objstore.Store {
		bucket = s.(*storetest.Memory)
		return s
	})
	f := written(t, m, "mine")
	m.handles.add(&handle{file: f, writes: true})
	m.handles.add(&handle{})
	away := errors.New("away")
	bucket.Before = func(objstore.Op, string) error { return away }
	if err := m.save(t.Context(), f); !errors.Is(err, away) {
		t.Fatalf("close: %v", err)
	}
	bucket.Before = nil
	m.releaseAll()
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, _ := bucket.Bytes("a"); string(b) != "mine" {
		t.Errorf("the bucket has %q", b)
	}
	if n := m.handles.len(); n > 0 {
		t.Errorf("%d handles left", n)
	}
}
