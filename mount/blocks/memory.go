package blocks

import (
	"container/list"
	"sync"
)

// whole is the piece that stands for all of a small content.
const whole = -1

// A memoryKey names a piece of a content.
type memoryKey struct {
	id    id
	piece int64
}

// A memory holds small contents that were used lately, or will be, and pieces
// that could not be written to disk. What was not used for longest goes first.
type memory struct {
	max   int64
	stats *counters

	mu    sync.Mutex // guards what follows
	bytes int64
	items map[memoryKey]*list.Element // of *item
	order *list.List                  // the latest used in front
}

type item struct {
	key    memoryKey
	bytes  []byte // never changed
	proven bool
	unread bool // fetched ahead, and not used since
}

// itemCost is what an item takes beside its bytes, about.
const itemCost = 256

func newMemory(max int64, stats *counters) *memory {
	return &memory{max: max, stats: stats, items: map[memoryKey]*list.Element{}, order: list.New()}
}

// get returns a piece, which is not to be changed.
func (m *memory) get(k memoryKey) (b []byte, proven, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.items[k]
	if !ok {
		return nil, false, false
	}
	m.order.MoveToFront(e)
	it := e.Value.(*item)
	it.unread = false
	return it.bytes, it.proven, true
}

func (m *memory) has(k memoryKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.items[k] != nil
}

// put keeps b, which the caller gives away.
func (m *memory) put(k memoryKey, b []byte, proven, unread bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.items[k]; e != nil {
		m.remove(e)
	}
	m.bytes += int64(len(b)) + itemCost
	m.items[k] = m.order.PushFront(&item{k, b, proven, unread})
	for m.bytes > m.max && m.order.Len() > 1 {
		last := m.order.Back()
		if last.Value.(*item).unread {
			m.stats.wasted.Add(1)
		}
		m.remove(last)
	}
}

// remove forgets an item. m.mu is held.
func (m *memory) remove(e *list.Element) {
	it := m.order.Remove(e).(*item)
	delete(m.items, it.key)
	m.bytes -= int64(len(it.bytes)) + itemCost
}
