package blocks

import "sync"

const (
	mostPrefetches = 64    // at a time
	mostWishes     = 32768 // that wait; the oldest are dropped
)

// wishes are the small contents that somebody expects to need. The latest batch
// comes first, in its own order.
type wishes struct {
	mu      sync.Mutex // guards what follows
	batches [][]Object
	waiting int // objects in batches
	working int // goroutines
}

// Prefetch fetches small contents (up to 1 MiB) in the background, as far as
// there is memory for them, and returns at once. Larger ones, and those that
// are there, cost nothing. Errors are left to whoever reads. objects must not
// be changed afterwards.
func (c *Cache) Prefetch(objects []Object) {
	w := &c.wishes
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(objects)
	for w.working < min(mostPrefetches, w.waiting) && c.spawn(c.grant) {
		w.working++
	}
}

// add puts a batch before all others. w.mu is held.
func (w *wishes) add(objects []Object) {
	objects = objects[:min(len(objects), mostWishes)]
	w.batches = append(w.batches, objects)
	w.waiting += len(objects)
	for w.waiting > mostWishes {
		w.waiting -= len(w.batches[0])
		w.batches = w.batches[1:]
	}
}

// next takes the first wish; without one the goroutine that asks is at its end.
func (w *wishes) next() (o Object, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := len(w.batches) - 1; n >= 0; n-- {
		if batch := w.batches[n]; len(batch) > 0 {
			w.batches[n] = batch[1:]
			w.waiting--
			return batch[0], true
		}
		w.batches = w.batches[:n]
	}
	w.working--
	return o, false
}

// grant fetches what is wished for until nothing is.
func (c *Cache) grant() {
	for {
		o, ok := c.wishes.next()
		if !ok {
			return
		}
		c.prefetch(o)
	}
}

func (c *Cache) prefetch(o Object) {
	i := o.id(c.bucket)
	if o.Size == 0 || o.Size > small || c.memory.has(memoryKey{i, whole}) {
		return
	}
	if _, ok := c.packs.find(i); ok {
		return
	}
	l, err := c.load(i, o, true)
	if err != nil {
		return
	}
	<-l.done // Close ends it
	if l.err == nil {
		c.stats.prefetched.Add(1)
	}
}
