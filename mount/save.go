package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// save brings f to the bucket, or, with write-back, into the journal, from which
// it gets there later. What is locked goes there at once: the next holder reads
// it.
func (m *FS) save(ctx context.Context, f *file) error {
	if m.opt.WriteBack && f.dirty.Load() && !m.locked(f.n.ino) {
		kept, err := m.keepStage(f)
		if err != nil || kept {
			return err
		}
	}
	return m.flush(ctx, f)
}

// keepStage gives the stage of f a name and an entry in the journal, and has it
// uploaded. A stage that is not whole is left to be uploaded at once.
func (m *FS) keepStage(f *file) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := m.staged(f); err != nil {
		return false, err
	}
	f.asked = f.gen
	if !f.stage.whole() {
		return false, nil
	}
	// What cannot be kept, on a full disk, is uploaded at once: nothing is promised
	// that a crash would lose.
	if err := m.nameStage(f.stage); err != nil {
		m.log.Warn("not kept for later", "path", m.pathOf(f.n), "err", err)
		return false, nil
	}
	before, stood := f.kept.Load(), f.stood
	if err := m.promise(f); err != nil {
		if f.stage.name != f.stood {
			_ = os.Remove(filepath.Join(m.stages(), f.stage.name))
			f.stage.name = ""
		}
		return false, nil
	}
	f.stood = f.stage.name
	if before != 0 { // and no moment without an entry of a content that was promised
		m.journal.end(before)
	}
	if stood != "" && stood != f.stood {
		_ = os.Remove(filepath.Join(m.stages(), stood))
	}
	m.saveLater(f)
	return true, nil
}

// promise makes an entry of f in the journal. The tree is held meanwhile: a rename
// changes either the name that the entry gets, or the entry. f.mu is held.
func (m *FS) promise(f *file) error {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	if f.n.is(detached) {
		return fs.ErrNotExist
	}
	state := f.n.state()
	state.Size = f.stage.size
	e := entry{Op: opPut, Key: string(state.Path), Rev: string(f.cond.If), Stage: f.stage.name, Line: f.line, Write: f.n.copying(), File: &state}
	if f.cond.Absent {
		e.replace(f.n.heirAt(state.Path))
	}
	id, err := m.journal.begin(e)
	if err == nil {
		f.kept.Store(id)
	}
	return err
}

func (m *FS) pathOf(n *node) manifest.Path {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	return n.path()
}

// saveLater uploads f in the background, and tries until that is done.
func (m *FS) saveLater(f *file) {
	j := m.queue.addOuter(&f.attempt)
	m.group.Go(func() {
		defer j.end()
		m.saveAtLast(f, j)
		m.retire(f)
	})
}

// saveAtLast uploads f as j. It gives up only when the mount ends.
func (m *FS) saveAtLast(f *file, j *job) {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		if m.beingWritten(f) {
			return // whoever closes it last uploads it
		}
		round, urged := m.queue.attempt()
		err := m.flushSpare(m.ctx, f)
		switch {
		case err == nil, errors.Is(err, errStale), m.ctx.Err() != nil:
			return
		case errors.Is(err, errHalf):
			continue
		}
		m.hindered(j, err, round)
		if pauseUntil(m.ctx, wait, urged) != nil {
			return
		}
	}
}

// beingWritten reports whether somebody has f open for writing. What its close
// has put into the journal is uploaded all the same, as long as it is that.
func (m *FS) beingWritten(f *file) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	return f.half()
}

// half is beingWritten. mu and the tree's mutex are held.
func (f *file) half() bool {
	return f.writers > 0 && (f.kept.Load() == 0 || f.gen != f.asked)
}

// dropStage takes f out of the journal, once the bucket has it: else the next life
// would put a former content in its place.
func (m *FS) dropStage(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept.Load() == 0 || f.dirty.Load() {
		return
	}
	m.journal.end(f.kept.Swap(0))
	_ = os.Remove(filepath.Join(m.stages(), f.stood))
	if f.stood = ""; f.stage != nil {
		f.stage.name = ""
	}
}

// nameStage makes sure that the file of s is still there after a crash.
func (m *FS) nameStage(s *stage) error {
	if s.name != "" {
		return nil
	}
	name := fmt.Sprintf("kept-%s-%d", m.opt.Life, m.keeping.Add(1))
	file, err := linkFile(s.file, filepath.Join(m.stages(), name))
	if err != nil {
		return err
	}
	s.file, s.name = file, name
	return nil
}
