package blocks

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A content is a large one that somebody reads: what is on disk of it, and what
// is on its way.
type content struct {
	cache  *Cache
	id     id
	object Object // Hash and Parts stand in proof
	refs   int    // guarded by Cache.mu

	proof    atomic.Pointer[proof] // nil while nothing is known that proves it
	failures atomic.Int32          // how many parts had another hash
	touched  atomic.Bool           // used since somebody last looked
	checking atomic.Bool           // all of it, in the background
	looked   atomic.Int64          // when that was, in ns since 1970, if it was used before

	opening sync.Mutex           // held while disk changes
	disk    atomic.Pointer[disk] // nil while it is not open

	mu      sync.Mutex // guards flights
	flights []*flight
}

// open returns the content's files, open. They may be closed again at any
// time, which shows as fs.ErrClosed: then open them again.
func (c *content) open() (*disk, error) {
	if d := c.disk.Load(); d != nil {
		return d, nil
	}
	d, victim, err := c.reopen()
	if victim != nil {
		victim.shut() // not under our own lock: two might wait for each other
	}
	return d, err
}

func (c *content) reopen() (*disk, *content, error) {
	c.opening.Lock()
	defer c.opening.Unlock()
	if d := c.disk.Load(); d != nil {
		return d, nil, nil
	}
	if err := c.cache.space.usable(); err != nil {
		return nil, nil, err
	}
	d, err := openDisk(c.id.path(c.cache.dir), c.id, c.object.Size)
	if err != nil {
		c.cache.space.broken(err)
		return nil, nil, err
	}
	c.disk.Store(d)
	c.cache.hold(c)
	return d, c.cache.descriptors.add(c), nil
}

// shut closes the content's files.
func (c *content) shut() {
	c.opening.Lock()
	defer c.opening.Unlock()
	d := c.disk.Swap(nil)
	if d == nil {
		return
	}
	if used := c.used(); !used.IsZero() {
		d.touch(used)
	}
	d.close()
	c.cache.descriptors.remove(c)
	c.cache.drop(c)
}

// with calls do with the content's files, again when they are closed meanwhile.
func (c *content) with(do func(*disk) error) error {
	for {
		d, err := c.open()
		if err != nil {
			return err
		}
		if err = do(d); !errors.Is(err, fs.ErrClosed) || c.disk.Load() == d {
			return err
		}
	}
}

// kept reads what there is of p, the content from off on, without the store. It
// reads nothing when the byte at off is not there, and never more than it can
// without a gap.
func (c *content) kept(p []byte, off int64) (n int, sure bool) {
	err := c.with(func(d *disk) (err error) {
		n, sure, err = d.read(p, off)
		return err
	})
	if n > 0 && err == nil {
		c.cache.stats.disk.Add(int64(n))
		return n, sure
	}
	i := off / grain
	piece, sure, ok := c.cache.memory.get(memoryKey{c.id, i})
	if !ok {
		return 0, false
	}
	n = copy(p, piece[off-i*grain:])
	c.cache.stats.memory.Add(int64(n))
	return n, sure
}

// read reads what is there and right of p, from off on.
func (d *disk) read(p []byte, off int64) (n int, sure bool, err error) {
	first, last := off/grain, ceil(off+int64(len(p)), grain)
	if !d.have.has(first) {
		if err := d.refresh(first, last); err != nil {
			return 0, false, err
		}
	}
	i := first
	for ; i < last; i++ {
		if ok, err := d.check(i); err != nil {
			return 0, false, err
		} else if !ok {
			break
		}
	}
	if i == first {
		return 0, false, nil
	}
	p = p[:min(int64(len(p)), i*grain-off)]
	sure = d.isProven(off, int64(len(p)))
	n, err = d.data.ReadAt(p, off)
	if n < len(p) && !errors.Is(err, fs.ErrClosed) {
		return 0, false, d.drop(first, i)
	}
	return n, sure, err
}

// has reports whether piece i is on disk or in memory.
func (c *content) has(d *disk, i int64) bool {
	return d != nil && d.have.has(i) || c.cache.memory.has(memoryKey{c.id, i})
}

// flight returns the one that brings the byte at off. c.mu is held.
func (c *content) flight(off int64) *flight {
	for _, f := range c.flights {
		if f.off <= off && off < f.end() {
			return f
		}
	}
	return nil
}

// join returns the flight that brings the byte at off, held, and nil when there
// is none.
func (c *content) join(off int64) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flight(off)
	if f != nil {
		f.hold()
	}
	return f
}

// await waits until no flight is on its way within the parts that end in the n
// bytes at off: then it is known whether they are right.
func (c *content) await(ctx context.Context, off, n int64) error {
	p := c.proof.Load()
	for at := off; at < off+n; {
		from, to := p.bounds(at, c.object.Size)
		if to > off+n {
			return nil
		}
		if err := c.awaitPart(ctx, from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func (c *content) awaitPart(ctx context.Context, from, to int64) error {
	c.mu.Lock()
	var over []*flight
	for _, f := range c.flights {
		if f.off < to && from < f.end() {
			f.hold()
			over = append(over, f)
		}
	}
	c.mu.Unlock()
	var err error
	for _, f := range over {
		if err == nil {
			err = f.until(ctx, 0, true)
			if ctx.Err() == nil {
				err = nil // the flight's own failure is for those who need its bytes
			}
		}
		f.release()
	}
	return err
}

// ended takes a flight off the list.
func (c *content) ended(f *flight) {
	c.mu.Lock()
	c.flights = slices.DeleteFunc(c.flights, func(g *flight) bool { return g == f })
	c.mu.Unlock()
}

// touch notes that the content is used.
func (c *content) touch() {
	if !c.touched.Load() {
		c.touched.Store(true)
	}
}

// idle reports whether the content was not used since the last call.
func (c *content) idle() bool {
	if !c.touched.Swap(false) {
		return true
	}
	c.looked.Store(time.Now().UnixNano())
	return false
}

// used returns when the content was last used, about, and zero when it was not.
func (c *content) used() time.Time {
	if c.touched.Load() {
		return time.Now()
	}
	if ns := c.looked.Load(); ns > 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// unwanted cuts off the flights of a Reader that nobody waits for.
func (c *content) unwanted(r *Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.flights {
		if f.reader == r && f.ahead && f.alone() {
			f.cancel(errUnwanted)
		}
	}
}
