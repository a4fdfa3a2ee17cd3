package blocks

import (
	"context"
	"io/fs"
)

// launch begins flights for what is missing between from and to, as far as
// there is memory for them now, and returns how far it came. Nobody waits yet
// for what comes from ahead on.
func (c *content) launch(r *Reader, from, ahead, to int64) int64 {
	d, err := c.open()
	if err == nil {
		_ = d.refresh(from/grain, ceil(to, grain)) // what cannot be read is fetched
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := down(from, grain)
	for at < to {
		next := c.skip(d, at, to)
		if next > at {
			at = next
			continue
		}
		end := c.gap(d, at, to)
		if !c.begin(r, at, end, at >= ahead) {
			if end = c.gap(d, at, up(ahead, grain)); at >= ahead || !c.begin(r, at, end, false) {
				return at
			}
		}
		at = end
	}
	return at
}

// skip returns where what is there or on its way ends, from at on.
func (c *content) skip(d *disk, at, to int64) int64 {
	for at < to {
		if f := c.flight(at); f != nil {
			at = f.end()
		} else if c.has(d, at/grain) {
			at += grain
		} else {
			break
		}
	}
	return at
}

// gap returns where what is missing from at on ends, at to, at the end of the
// content or of what one GET may bring.
func (c *content) gap(d *disk, at, to int64) int64 {
	end := at + grain
	most := min(to, down(at, block)+block, at+c.cache.largest)
	for end < most && c.flight(end) == nil && !c.has(d, end/grain) {
		end += grain
	}
	return min(end, c.object.Size)
}

// begin begins a flight when there is memory for it. c.mu is held. Where a
// part was wrong before, nothing is fetched ahead.
func (c *content) begin(r *Reader, from, to int64, ahead bool) bool {
	if c.failures.Load() > 0 && c.proof.Load() != nil || !c.cache.budget.try(to-from, ahead) {
		return false
	}
	return c.start(r, from, to, ahead, false)
}

// start begins a flight whose memory is taken. c.mu is held.
func (c *content) start(r *Reader, from, to int64, ahead, strict bool) bool {
	f := &flight{content: c, reader: r, off: from, ahead: ahead, strict: strict, refs: 1}
	ctx, cancel := context.WithCancelCause(c.cache.ctx)
	f.cancel = cancel
	f.buf = buffer(int(to - from))
	c.cache.hold(c)
	if !c.cache.spawn(func() { f.fly(ctx) }) {
		f.release()
		c.cache.drop(c)
		return false
	}
	r.departed()
	c.flights = append(c.flights, f)
	return true
}

// demand returns a flight that brings the byte at off, held; mine says that it
// was begun for this. It waits for memory.
func (c *content) demand(ctx context.Context, r *Reader, off, to int64) (f *flight, mine bool, err error) {
	if f := c.join(off); f != nil {
		return f, false, nil
	}
	from, to, strict := c.need(off, to)
	if err := c.cache.budget.wait(ctx, to-from, false); err != nil {
		return nil, false, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f = c.flight(off); f != nil { // somebody was faster while we waited
		c.cache.budget.free(to-from, false)
		f.hold()
		return f, false, nil
	}
	if !c.start(r, from, to, false, strict) {
		return nil, false, fs.ErrClosed
	}
	f = c.flights[len(c.flights)-1]
	f.hold()
	return f, true, nil
}

// need returns what to fetch for a reader that waits for the bytes from off to
// to: as few as it can be, but the whole part where a part was wrong before.
func (c *content) need(off, to int64) (from, end int64, strict bool) {
	if p := c.proof.Load(); p != nil && c.failures.Load() > 0 {
		from, end = p.bounds(off, c.object.Size)
		return from, end, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from = down(off, grain)
	return from, c.gap(c.disk.Load(), from, to), false
}
