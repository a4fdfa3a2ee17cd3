package mount

import (
	"context"
	"sync"
)

// A notifier tells the kernel what it must forget. Each call may wait for the
// kernel's locks, which requests hold that wait for us: so nobody calls it but
// the one goroutine of kernel.run, which holds nothing.
type notifier interface {
	forgetName(dir uint64, name string)
	forgetAttr(id uint64)
	forgetContent(id uint64) // a directory's listing, a file's pages
}

// A kernel collects what the kernel must forget.
type kernel struct {
	mu    sync.Mutex // guards what follows
	names map[nameOf]struct{}
	attrs map[uint64]struct{}
	dirs  map[uint64]struct{} // and the few files whose pages are stale
	wake  chan struct{}
	idle  chan struct{} // closed when all was told; nil while nothing waits
}

type nameOf struct {
	dir  uint64
	name string
}

func (k *kernel) init() {
	k.names, k.attrs, k.dirs = map[nameOf]struct{}{}, map[uint64]struct{}{}, map[uint64]struct{}{}
	k.wake = make(chan struct{}, 1)
}

// tellName has the kernel forget what it knows of name in dir, and dir's
// listing. The tree's mutex is held.
func (m *FS) tellName(dir *node, name string) {
	if dir == nil || dir.id == 0 {
		return
	}
	m.kernel.put(func(k *kernel) {
		k.names[nameOf{dir.id, name}] = struct{}{}
		k.dirs[dir.id] = struct{}{}
	})
}

// tellAttr has the kernel forget the attributes of n.
func (m *FS) tellAttr(n *node) {
	if n.id != 0 {
		m.kernel.put(func(k *kernel) { k.attrs[n.id] = struct{}{} })
	}
}

// tellContent has the kernel forget the pages and attributes of n.
func (m *FS) tellContent(n *node) {
	if n.id != 0 {
		m.kernel.put(func(k *kernel) { k.dirs[n.id] = struct{}{} })
	}
}

// forgetAll has the kernel forget all names.
func (m *FS) forgetAll() {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	m.kernel.put(func(k *kernel) {
		for _, n := range m.tree.known {
			switch {
			case n.is(isDir):
				k.dirs[n.id] = struct{}{}
			case !n.is(detached) && n.parent.id != 0:
				k.names[nameOf{n.parent.id, n.name}] = struct{}{}
			}
		}
	})
}

func (k *kernel) put(note func(*kernel)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	note(k)
	if k.idle == nil {
		k.idle = make(chan struct{})
	}
	wake(k.wake)
}

// settled waits until the kernel was told all that waits.
func (k *kernel) settled(ctx context.Context) error {
	k.mu.Lock()
	idle := k.idle
	k.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run tells the kernel until ctx ends.
func (k *kernel) run(ctx context.Context, to notifier, told func(int)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		told(k.tell(to))
	}
}

// tell says what waits, and returns how much it was.
func (k *kernel) tell(to notifier) int {
	k.mu.Lock()
	names, attrs, dirs, idle := k.names, k.attrs, k.dirs, k.idle
	k.names, k.attrs, k.dirs = map[nameOf]struct{}{}, map[uint64]struct{}{}, map[uint64]struct{}{}
	k.mu.Unlock()
	for n := range names {
		to.forgetName(n.dir, n.name)
	}
	for id := range attrs {
		to.forgetAttr(id)
	}
	for id := range dirs {
		to.forgetContent(id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.names)+len(k.attrs)+len(k.dirs) == 0 && idle != nil {
		close(idle)
		k.idle = nil
	}
	return len(names) + len(attrs) + len(dirs)
}
