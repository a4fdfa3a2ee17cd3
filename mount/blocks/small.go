package blocks

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A load is a small content on its way, for all who want it.
type load struct {
	done  chan struct{} // closed when what follows is set
	bytes []byte
	err   error
}

// fillSmall reads p, which lies within a small content.
func (r *Reader) fillSmall(ctx context.Context, p []byte, off int64) error {
	if r.closed.Load() {
		return fmt.Errorf("read %q: %w", r.object.Key, os.ErrClosed)
	}
	b, _, ok := r.cache.memory.get(memoryKey{r.id, whole})
	if ok {
		r.cache.stats.hits.Add(1)
		r.cache.stats.memory.Add(int64(len(p)))
	} else {
		var err error
		if b, err = r.cache.loadSmall(ctx, r.id, r.object); err != nil {
			return err
		}
	}
	copy(p, b[off:])
	return nil
}

// loadSmall returns a small content that is not in memory.
func (c *Cache) loadSmall(ctx context.Context, i id, o Object) ([]byte, error) {
	l, err := c.load(i, o, false)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(c.deadline)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.bytes, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, fmt.Errorf("read %q: %w", o.Key, errNoAnswer)
	}
}

// load returns a small content on its way.
func (c *Cache) load(i id, o Object, ahead bool) (*load, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.loads[i]
	if l != nil {
		c.leave()
		return l, nil
	}
	l = &load{done: make(chan struct{})}
	c.loads[i] = l
	go func() {
		defer c.leave()
		c.bring(l, i, o, ahead)
	}()
	return l, nil
}

// bring gets a small content from disk or from the store, and writes it to disk
// after those who wait have it.
func (c *Cache) bring(l *load, i id, o Object, ahead bool) {
	b, ok := c.packs.read(i, o.Size)
	if ok {
		c.stats.hits.Add(1)
		c.stats.disk.Add(o.Size)
		c.arrived(l, i, b, nil, ahead)
		return
	}
	if !ahead {
		c.stats.misses.Add(1)
	}
	err := c.budget.wait(c.ctx, o.Size, ahead)
	if err == nil {
		defer c.budget.free(o.Size, ahead)
		b, err = c.fetchSmall(o)
	}
	c.arrived(l, i, b, err, ahead)
	if err == nil {
		c.writeSmall(i, b)
	}
}

// arrived gives out what was brought.
func (c *Cache) arrived(l *load, i id, b []byte, err error, ahead bool) {
	if err == nil {
		c.memory.put(memoryKey{i, whole}, b, true, ahead)
	}
	l.bytes, l.err = b, err
	c.mu.Lock()
	delete(c.loads, i)
	c.mu.Unlock()
	close(l.done)
}

// writeSmall writes a small content to disk. Without a disk it is in memory.
func (c *Cache) writeSmall(i id, b []byte) {
	_ = c.space.take(int64(len(b)+trailerSize+placeSize), func() error { return c.packs.write(i, b) })
}

// fetchSmall gets a small content from the store, once more when it has another
// hash.
func (c *Cache) fetchSmall(o Object) ([]byte, error) {
	for range 2 {
		b, err := c.getSmall(o)
		if err != nil {
			return nil, err
		}
		if o.Hash.IsZero() || manifest.Sum(b) == o.Hash {
			return b, nil
		}
		c.corrupt(o, 0)
	}
	return nil, fmt.Errorf("read %q: %w", o.Key, ErrCorrupt)
}

func (c *Cache) getSmall(o Object) ([]byte, error) {
	g := c.get(c.ctx, o, 0, o.Size)
	defer g.close()
	b := make([]byte, o.Size, o.Size+int64(trailerSize))
	if _, err := io.ReadFull(g, b); err != nil {
		return nil, g.failed(err)
	}
	return b, nil
}
