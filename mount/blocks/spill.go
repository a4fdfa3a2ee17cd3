package blocks

import "io/fs"

// A spill is how much of a flight is in the content's file already. A piece is
// written there as soon as it has come, while it is in the processor's cache:
// of a flight of 8 MiB nothing is by the time that it lands. Only the checksums
// make it count, and they follow when it is known to be right.
//
// It belongs to the flight's goroutine.
type spill struct {
	disk  *disk // where it lies; the content may have been opened anew since
	bytes int64
	over  bool // something went wrong: what is left is written when it lands
}

// take writes what has come of f, got bytes, as far as it is whole pieces.
func (s *spill) take(f *flight, got int) {
	end := int64(got)
	if got < len(f.buf) {
		end = down(end, grain)
	}
	if s.over || end <= s.bytes {
		return
	}
	c := f.content
	err := c.cache.space.take(end-s.bytes, func() error {
		return c.with(func(d *disk) error { return s.write(d, f.buf[s.bytes:end], f.off+s.bytes) })
	})
	s.bytes, s.over = end, err != nil
	if err != nil {
		s.bytes, s.disk = 0, nil
	}
}

func (s *spill) write(d *disk, b []byte, off int64) error {
	if s.disk != nil && s.disk != d {
		return fs.ErrClosed // to go on in another file would leave a hole
	}
	s.disk = d
	_, err := d.data.WriteAt(b, off)
	return err
}
