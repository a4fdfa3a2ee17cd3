package blocks

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skyagent/skyagent/manifest"
)

// Adopt makes what f holds, which is all of the content, the cached content:
// without copying where f is open for reading only and nobody has it open for
// writing, and then nobody may write to it any more; by a copy that f's later
// writes do not change else, which costs little where the file system shares
// blocks. Content with another size or hash is ErrCorrupt, and not kept.
func (c *Cache) Adopt(o Object, f *os.File) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	st, err := f.Stat()
	if err == nil && st.Size() != o.Size {
		err = fmt.Errorf("%w: it has %d bytes, not %d", ErrCorrupt, st.Size(), o.Size)
	}
	if err == nil {
		if o.Size <= small {
			err = c.adoptSmall(o, f)
		} else {
			err = c.adoptLarge(o, f)
		}
	}
	if err != nil {
		return fmt.Errorf("adopt %q: %w", o.Key, err)
	}
	return nil
}

func (c *Cache) adoptSmall(o Object, f *os.File) error {
	b := make([]byte, o.Size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	if !o.Hash.IsZero() && manifest.Sum(b) != o.Hash {
		return ErrCorrupt
	}
	c.Put(o, b)
	return nil
}

func (c *Cache) adoptLarge(o Object, f *os.File) error {
	at := c.acquire(o.id(c.bucket), o)
	defer c.drop(at)
	return c.space.take(o.Size+fileCost, func() error {
		temp, err := c.space.copyOf(f)
		if err != nil {
			return err
		}
		if err = at.place(temp); err != nil {
			err = errors.Join(err, os.Remove(temp), remove(temp+sumsSuffix))
		}
		return err
	})
}

// place proves the content in the file temp and puts it where it is looked for.
// Who reads the content meanwhile has the old file, or opens the new one: both
// hold the same bytes.
func (c *content) place(temp string) error {
	d, err := openDisk(temp, c.id, c.object.Size)
	if err != nil {
		return err
	}
	err = d.prove(c.proof.Load())
	d.close()
	if err != nil {
		return err
	}
	path := c.id.path(c.cache.dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(temp, path), os.Rename(temp+sumsSuffix, path+sumsSuffix)); err != nil {
		return err
	}
	c.shut()
	return nil
}

// prove compares all of the content with its hashes and notes the checksums.
func (d *disk) prove(p *proof) error {
	state := byte(unproven)
	if p != nil {
		state = proven
		if err := d.compare(p); err != nil {
			return err
		}
	}
	b := buffer(block)
	defer recycle(b)
	for off := int64(0); off < d.size; off += block {
		b := b[:min(block, d.size-off)]
		if _, err := d.data.ReadAt(b, off); err != nil {
			return err
		}
		if err := d.note(off/grain, b, state); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) compare(p *proof) error {
	for off := int64(0); off < d.size; off += p.part {
		if ok, err := d.matches(p, off); !ok || err != nil {
			return cmp.Or(err, ErrCorrupt)
		}
	}
	return nil
}

// matches reports whether the part at off has its hash.
func (d *disk) matches(p *proof, off int64) (bool, error) {
	from, to := p.bounds(off, d.size)
	hash, _, err := manifest.HashReader(io.NewSectionReader(d.data, from, to-from), 0)
	return hash == p.hashes[from/p.part], err
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
