package mount

import (
	"context"
	"io"
	"syscall"
)

// maxTarget is how long the target of a symlink may be, in bytes; Linux has no
// longer paths.
const maxTarget = 4095

// shownLink reports whether n is to be seen as a symlink: one that may be, and
// that a file system can have. The tree's mutex is held.
func (m *FS) shownLink(n *node) bool {
	return n.is(isLink) && m.opt.Symlinks && 0 < n.size && n.size <= maxTarget
}

// symlink makes a symlink in dir. Its target goes to the bucket as the content
// of a file does, by fill. The tree's mutex is held.
func (m *FS) symlink(dir *node, name string) (*node, *file) {
	n := m.create(dir, name, 0o777)
	n.flags |= isLink
	f := m.openFile(n, true)
	f.begin()
	return n, f
}

// fill writes the target of a new symlink, into the journal and from there to
// the bucket. One that the journal cannot take goes there all the same.
func (m *FS) fill(ctx context.Context, f *file, target string) error {
	kept := false
	err := m.write(ctx, f, []byte(target), 0)
	if err == nil {
		kept, err = m.keepStage(f)
	}
	if err != nil {
		m.tree.mu.Lock()
		f.n.flags |= removed
		m.vanish(f.n)
		m.tree.mu.Unlock()
	}
	m.closed(f, true)
	if err == nil && !kept {
		m.saveLater(f)
	}
	return err
}

// target returns where symlink n leads.
func (m *FS) target(ctx context.Context, n *node) ([]byte, error) {
	for again := false; ; again = true {
		m.tree.mu.RLock()
		f, object := n.file, n.object()
		m.tree.mu.RUnlock()
		if f == nil {
			f = &file{}
		}
		b := make([]byte, object.Size)
		var got int
		var err error
		if object.Rev == "" {
			got, err = f.readAt(ctx, nil, b, 0)
		} else {
			reader := m.opt.Cache.Reader(object)
			got, err = f.readAt(ctx, reader, b, 0)
			reader.Close()
		}
		switch {
		case got == len(b) && (err == nil || err == io.EOF):
			return b, nil
		case again && err != io.EOF:
			return nil, err
		case again:
			return nil, syscall.EIO
		}
		// It has reached the bucket, or another name, in between.
	}
}
