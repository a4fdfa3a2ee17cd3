package blocks

import (
	"os"

	"github.com/skyagent/skyagent/manifest"
)

// Put keeps a small content (up to 1 MiB) that came some other way, and copies
// it. One that has another hash or size is not kept. A larger one is not
// either: see Adopt.
func (c *Cache) Put(o Object, content []byte) {
	if len(content) == 0 || len(content) > small || int64(len(content)) != o.Size {
		return
	}
	if !o.Hash.IsZero() && manifest.Sum(content) != o.Hash {
		c.corrupt(o, 0)
		return
	}
	b := append(make([]byte, 0, len(content)+trailerSize), content...)
	i := o.id(c.bucket)
	c.memory.put(memoryKey{i, whole}, b, true, false)
	if c.budget.try(o.Size, true) {
		started := c.spawn(func() {
			defer c.budget.free(o.Size, true)
			c.writeSmall(i, b)
		})
		if !started {
			c.budget.free(o.Size, true)
		}
	}
}

// inline is how many bytes File checks while the caller waits.
const inline = 64 << 20

// File returns the whole content, in a file of exactly its size that is open
// for reading only: if it is on disk, all of it was checked since the cache was
// opened, and its parts were right where something is known that proves them. The
// caller closes the file, which stays readable when the content is evicted.
// It says no, and checks in the background, while much of it is unchecked.
func (c *Cache) File(o Object) (*os.File, bool) {
	if c.enter() != nil {
		return nil, false
	}
	defer c.leave()
	if o.Size <= small {
		return c.smallFile(o)
	}
	at := c.acquire(o.id(c.bucket), o)
	defer c.drop(at)
	var f *os.File
	err := at.with(func(d *disk) (err error) {
		f, err = at.file(d)
		return err
	})
	return f, err == nil && f != nil
}

// file returns nil when the content is not all there.
func (c *content) file(d *disk) (*os.File, error) {
	if err := d.refresh(0, ceil(d.size, grain)); err != nil || !d.complete(c.proof.Load() != nil) {
		return nil, err
	}
	c.touch()
	if d.unchecked() > inline {
		c.checkLater(d)
		return nil, nil
	}
	if ok, err := d.checkAll(); !ok || err != nil {
		return nil, err
	}
	return d.again()
}

// checkLater checks what is on disk, in a goroutine, at most one for each
// content.
func (c *content) checkLater(d *disk) {
	if c.checking.Swap(true) {
		return
	}
	c.cache.hold(c)
	end := func() {
		c.checking.Store(false)
		c.cache.drop(c)
	}
	started := c.cache.spawn(func() {
		defer end()
		for i := int64(0); i < ceil(d.size, grain) && c.cache.ctx.Err() == nil; i++ {
			if ok, err := d.check(i); !ok || err != nil {
				return
			}
		}
	})
	if !started {
		end()
	}
}

// smallFile makes a file without a name and without the trailer.
func (c *Cache) smallFile(o Object) (*os.File, bool) {
	i := o.id(c.bucket)
	b, _, ok := c.memory.get(memoryKey{i, whole})
	if !ok && o.Size > 0 {
		if b, ok = c.packs.read(i, o.Size); !ok {
			return nil, false
		}
	}
	f, err := c.space.nameless(b)
	return f, err == nil
}
