package mount

import (
	"sort"
	"sync"

	"github.com/skyagent/skyagent/mount/blocks"
)

const (
	maxWalks   = 64      // directories that are remembered
	stride     = 64      // files that are fetched ahead of a walk, at a time
	smallFile  = 1 << 20 // bytes up to which a file is fetched ahead
	strideSize = 16 << 20
)

// walks remember the directories that were listed lately: who opens one small
// file of such a directory after the listing will want the next ones, so they
// are fetched together.
type walks struct {
	mu    sync.Mutex // guards what follows
	list  map[*node]*walk
	order []*node // the oldest first
}

// A walk is one directory, as it was listed.
type walk struct {
	names []string // in order
	ahead int      // index of the first that was not asked for yet
}

func (w *walks) opened(dir *node, names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.list == nil {
		w.list = map[*node]*walk{}
	}
	if w.list[dir] == nil {
		if len(w.order) == maxWalks {
			delete(w.list, w.order[0])
			w.order = w.order[1:]
		}
		w.order = append(w.order, dir)
	}
	w.list[dir] = &walk{names: names}
}

// next returns the names to fetch now that name was opened in dir.
func (w *walks) next(dir *node, name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.list[dir]
	if k == nil {
		return nil
	}
	at := sort.SearchStrings(k.names, name)
	if at+stride/2 < k.ahead {
		return nil // enough is on its way
	}
	from := max(at, k.ahead)
	to := min(max(from, at)+stride, len(k.names))
	if from >= to {
		return nil
	}
	k.ahead = to
	return k.names[from:to]
}

// ahead has the files fetched that follow n in a walk of its directory.
func (m *FS) ahead(n *node) {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	if n.size > smallFile || n.parent == nil {
		return
	}
	var list []blocks.Object
	bytes := int64(0)
	for _, name := range m.walks.next(n.parent, n.name) {
		kid := n.parent.kids.get(name)
		if kid == nil || kid.is(isDir) || kid.rev == "" || kid.size == 0 || kid.size > smallFile || kid.file != nil && kid.file.dirty.Load() {
			continue
		}
		if bytes += kid.size; bytes > strideSize {
			break
		}
		list = append(list, kid.object())
	}
	if len(list) > 0 {
		m.opt.Cache.Prefetch(list)
	}
}
