package blocks

import (
	"context"
	"errors"
	"fmt"

	"github.com/skyagent/skyagent/manifest"
)

// fly is a flight's goroutine: fetch, judge, write, land.
func (f *flight) fly(ctx context.Context) {
	defer f.release()
	err := f.fill(ctx)
	f.cancel(context.Canceled)
	whole, sure := f.whole(), false
	if f.got == len(f.buf) {
		sure, err = f.judge()
	}
	if !errors.Is(err, ErrCorrupt) && err != errMismatch {
		f.content.keep(f.off, f.buf[:whole], sure, &f.spill)
	}
	f.content.ended(f)
	f.change(func() { f.land(sure, err) })
	f.reader.landed()
	f.content.cache.drop(f.content)
}

// whole returns how many bytes have come that are whole pieces: they are kept
// even when the rest did not come.
func (f *flight) whole() int {
	if f.got == len(f.buf) {
		return f.got
	}
	return int(down(int64(f.got), grain))
}

// land notes how the flight ended. f.mu is held.
func (f *flight) land(sure bool, err error) {
	f.landed, f.proven, f.err = true, sure, err
	f.wrong = err == errMismatch || errors.Is(err, ErrCorrupt)
}

// judge compares the parts that lie in the flight with their hashes. sure says
// that it is nothing but such parts. It is still the flight's own: readers only
// read the bytes.
func (f *flight) judge() (sure bool, err error) {
	c := f.content
	p := c.proof.Load()
	if p == nil {
		return false, nil
	}
	sure = true
	for at := f.off; at < f.end(); {
		from, to := p.bounds(at, c.object.Size)
		if from < f.off || to > f.end() {
			sure = false
		} else if manifest.Sum(f.buf[from-f.off:to-f.off]) != p.hashes[from/p.part] {
			return false, f.mismatch(from)
		}
		at = to
	}
	return sure, nil
}

// mismatch notes that the part at off is wrong. It is fetched again, once: then
// strictly.
func (f *flight) mismatch(off int64) error {
	f.content.failures.Add(1)
	f.content.cache.corrupt(f.content.object, off)
	if f.strict {
		return fmt.Errorf("read %q at %d: %w", f.content.object.Key, off, ErrCorrupt)
	}
	return errMismatch
}

// keep writes bytes that were fetched, whole pieces from off on, to disk, and
// proves the parts that are whole now. Without a disk they stay in memory for a
// while. What has been spilled only gets its checksums.
func (c *content) keep(off int64, b []byte, sure bool, spilled *spill) {
	if len(b) == 0 {
		return
	}
	state := byte(unproven)
	if sure {
		state = proven
	}
	room := int64(len(b)) - spilled.bytes + fileCost
	err := c.cache.space.take(room, func() error {
		return c.with(func(d *disk) error {
			if spilled.disk == d && spilled.bytes >= int64(len(b)) {
				return d.note(off/grain, b, state)
			}
			return d.write(off/grain, b, state)
		})
	})
	switch {
	case err != nil:
		c.remember(off, b, sure)
	case !sure:
		c.prove(off, off+int64(len(b)))
	}
}

// remember keeps pieces in memory.
func (c *content) remember(off int64, b []byte, sure bool) {
	for at := 0; at < len(b); at += grain {
		piece := append([]byte(nil), b[at:min(at+grain, len(b))]...)
		c.cache.memory.put(memoryKey{c.id, (off + int64(at)) / grain}, piece, sure, false)
	}
}

// prove judges the parts between from and to that are whole on disk by now, of
// the pieces of several flights.
func (c *content) prove(from, to int64) {
	p := c.proof.Load()
	if p == nil {
		return
	}
	for at := from; at < to; {
		begin, end := p.bounds(at, c.object.Size)
		_ = c.with(func(d *disk) error { return c.provePart(d, p, begin, end) }) // unproven it stays
		at = end
	}
}

// provePart reads a part from disk, if all of it is there. One with another
// hash is forgotten.
func (c *content) provePart(d *disk, p *proof, from, to int64) error {
	first, last := from/grain, ceil(to, grain)
	if !d.have.all(first, last) || d.proven.all(first, last) {
		return nil
	}
	for i := first; i < last; i++ {
		if ok, err := d.check(i); !ok || err != nil {
			return err
		}
	}
	switch ok, err := d.matches(p, from); {
	case err != nil:
		return err
	case ok:
		return d.markProven(first, last)
	}
	c.failures.Add(1)
	c.cache.corrupt(c.object, from)
	return d.drop(first, last)
}

// markProven notes that the pieces, which are good, are part of a part whose
// hash was right.
func (d *disk) markProven(from, to int64) error {
	b := buffer(grain)
	defer recycle(b)
	for i := from; i < to; i++ {
		piece := b[:d.length(i)]
		if _, err := d.data.ReadAt(piece, i*grain); err != nil {
			return err
		}
		if err := d.note(i, piece, proven); err != nil {
			return err
		}
	}
	return nil
}
