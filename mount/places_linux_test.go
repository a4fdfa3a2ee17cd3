package mount

import (
	"fmt"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/skyagent/skyagent/objstore"
)

// TestListFromAnywhere reads a directory as the kernel does that has forgotten a
// part of it: the first names by one handle, the rest by another one, while files
// come and go. Every name that stays comes once.
func TestListFromAnywhere(t *testing.T) {
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return store })
	r := &raw{m: m}
	m.tree.mu.Lock()
	for i := range 100 {
		m.tree.add(m.tree.root, fmt.Sprintf("f%02d", i*37%100), 0)
	}
	m.tree.mu.Unlock()
	seen := map[string]int{}
	var offset uint64
	for round := range 10 {
		fh := m.handles.add(&handle{dir: m.tree.root})
		left := 11
		code := r.list(&fuse.ReadIn{Fh: fh, Offset: offset}, func(_ *handle, _ *node, e fuse.DirEntry) bool {
			if left--; left < 0 {
				return false
			}
			seen[e.Name]++
			offset = e.Off
			return true
		})
		if !code.Ok() {
			t.Fatal(code)
		}
		m.tree.mu.Lock()
		m.tree.add(m.tree.root, fmt.Sprint("a", round), 0)
		m.tree.unlink(m.tree.root.kids.get(fmt.Sprintf("f%02d", round)))
		m.tree.mu.Unlock()
	}
	for i := 10; i < 100; i++ {
		if name := fmt.Sprintf("f%02d", i); seen[name] != 1 {
			t.Errorf("%s came %d times", name, seen[name])
		}
	}
	if seen["."] != 1 || seen[".."] != 1 || seen["a"] != 1 {
		t.Errorf("seen %v", seen)
	}
}
