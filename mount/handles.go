package mount

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/skyagent/skyagent/mount/blocks"
)

// A handle is one open(2) of a file, or of a directory.
type handle struct {
	file   *file
	places []place // of a directory, as they were when it was read first
	dir    *node
	writes bool
	owner  uint32 // process that opened it

	forfeit atomic.Bool // a lock that it held was lost: it may not write

	mu      sync.Mutex // guards what follows
	reader  *blocks.Reader
	version uint64 // of the file, that reader reads
}

// handles are what is open, by the number that the kernel uses.
type handles struct {
	mu   sync.RWMutex // guards what follows
	list map[uint64]*handle
	next uint64
}

func (h *handles) add(one *handle) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.list == nil {
		h.list = map[uint64]*handle{}
	}
	h.next++
	h.list[h.next] = one
	return h.next
}

func (h *handles) get(fh uint64) *handle {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.list[fh]
}

func (h *handles) take(fh uint64) *handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.list[fh]
	delete(h.list, fh)
	return one
}

// all returns the numbers of what is open.
func (h *handles) all() []uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Keys(h.list))
}

func (h *handles) len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.list)
}

// clean returns what reads the content as the bucket has it.
func (m *FS) clean(h *handle, again bool) *blocks.Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	version := h.file.version.Load()
	if h.reader != nil && (again || h.version != version) {
		h.reader.Close()
		h.reader = nil
	}
	if h.reader == nil {
		m.tree.mu.RLock()
		object := h.file.n.object()
		m.tree.mu.RUnlock()
		if object.Rev != "" {
			h.reader, h.version = m.opt.Cache.Reader(object), version
		}
	}
	return h.reader
}

// read reads through h. A content whose object was moved while it was open is
// found at its new name.
func (m *FS) read(ctx context.Context, h *handle, p []byte, off int64) (int, error) {
	n, err := h.file.readAt(ctx, m.clean(h, false), p, off)
	if errors.Is(err, blocks.ErrGone) {
		n, err = h.file.readAt(ctx, m.clean(h, true), p, off)
	}
	return n, err
}

// release ends h, which nobody has any more.
func (m *FS) release(h *handle) {
	if h.file == nil {
		return
	}
	h.close()
	m.dropLocks(h)
	m.closed(h.file, h.writes)
	if h.writes && h.file.dirty.Load() {
		m.saveLater(h.file) // a mapping was written to, or a copy was closed last
	}
}

// releaseAll ends all handles when the mount is gone: the kernel, which says so a
// little after the last close, may not have come to it.
func (m *FS) releaseAll() {
	for _, fh := range m.handles.all() {
		if h := m.handles.take(fh); h != nil {
			m.release(h)
		}
	}
}

func (h *handle) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reader != nil {
		h.reader.Close()
		h.reader = nil
	}
}
