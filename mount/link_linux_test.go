package mount

import (
	"log/slog"
	"os"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// TestSymlinkFullDisk makes a symlink that the journal has no room for: it
// reaches the bucket all the same.
func TestSymlinkFullDisk(t *testing.T) {
	var bucket *storetest.Memory
	m, _ := mounted(t, func(store objstore.Store) objstore.Store {
		bucket = store.(*storetest.Memory)
		return store
	})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { full.Close() })
	m.journal.file, m.journal.log = full, slog.New(slog.DiscardHandler)
	m.tree.mu.Lock()
	_, f := m.symlink(m.tree.root, "link")
	m.tree.mu.Unlock()
	if err := m.fill(t.Context(), f, "target"); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, ok := bucket.Bytes("link"); string(b) != "target" {
		t.Errorf("the bucket has %q, %v", b, ok)
	}
}
