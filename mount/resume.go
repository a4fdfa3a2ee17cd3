package mount

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// resume goes on with what a former life left in the journal, and sweeps what
// it left beside. Nothing of that begins before all of it is known.
func (m *FS) resume() {
	m.queue.hold()
	defer m.queue.release()
	m.setResumes(true)
	defer m.setResumes(false)
	kept := map[string]bool{}
	var files []*file
	var dirs []entry
	for _, e := range m.journal.left() {
		m.log.Info("goes on from the journal", "op", e.Op, "key", e.Key)
		var err error
		switch {
		case e.Op == opPut && e.Stage != "":
			kept[e.Stage] = true
			dirs = m.makeWay(dirs, e.Key)
			f, err := m.resumePut(e)
			if err != nil {
				m.notResumed(e, err)
				continue
			}
			files = append(files, f)
			continue
		case e.Op == opPut && e.File != nil:
			m.resumeAttrs(e)
		case e.Op == opDelete && strings.HasSuffix(e.Key, "/"):
			dirs = append(dirs, e) // what is below them goes first
			continue
		case e.Op == opDelete:
			err = m.resumeDelete(e)
		case e.Op == opMove:
			dirs = m.makeWay(dirs, e.To)
			err = m.resumeMove(e)
		case e.Op == opMkdir:
			dirs = m.remade(dirs, e.Key)
			m.resumeMkdir(e)
		}
		m.resumed(e, err)
	}
	for _, e := range slices.Backward(dirs) {
		m.resumed(e, m.resumeDelete(e))
	}
	for _, f := range files {
		if f.stage != nil { // else another has taken its place
			m.saveLater(f)
		}
	}
	m.sweep(kept)
}

// resumed ends an entry, but for one of which the store said nothing: the next life
// tries again.
func (m *FS) resumed(e entry, err error) {
	if err != nil {
		m.notResumed(e, err)
		return
	}
	m.journal.end(e.ID)
}

func (m *FS) notResumed(e entry, err error) {
	m.log.Error("not gone on with from the journal, the next start will try again", "op", e.Op, "key", e.Key, "err", err)
}

// sweep removes the stages that are not kept.
func (m *FS) sweep(kept map[string]bool) {
	left, _ := os.ReadDir(m.stages())
	for _, d := range left {
		if !kept[d.Name()] {
			_ = os.Remove(filepath.Join(m.stages(), d.Name()))
		}
	}
}

func (m *FS) setResumes(on bool) {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	m.resumes = on
}

// makeWay removes those of dirs that stand where a file comes to key, and leaves
// them out.
func (m *FS) makeWay(dirs []entry, key string) []entry {
	for i, e := range slices.Backward(dirs) {
		if strings.HasPrefix(e.Key, key+"/") {
			m.resumed(e, m.resumeDelete(e))
			dirs = slices.Delete(dirs, i, i+1)
		}
	}
	return dirs
}

// remade leaves out of dirs the removals of the directory that is made anew by key.
func (m *FS) remade(dirs []entry, key string) []entry {
	return slices.DeleteFunc(dirs, func(e entry) bool {
		if e.Key == key {
			m.journal.end(e.ID)
		}
		return e.Key == key
	})
}

// resumePut takes up a file that was written, with the condition of then.
func (m *FS) resumePut(e entry) (*file, error) {
	p, _, ok := splitKey(e.Key)
	if !ok || e.File == nil {
		return nil, fmt.Errorf("entry of %q is damaged", e.Key)
	}
	file, err := os.OpenFile(filepath.Join(m.stages(), e.Stage), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	there, err := m.unexpected(e.Key, e.Rev)
	if err != nil {
		file.Close()
		return nil, err
	}
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	dir := m.tree.mkdirs(p.Dir(), e.File.MTime)
	if dir == nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", p.Dir(), fs.ErrInvalid)
	}
	n := dir.kids.get(p.Base())
	if n == nil {
		n = m.tree.add(dir, p.Base(), 0)
	}
	switch {
	case string(n.rev) == e.Rev || n.rev == "" || n.key() != e.Key: // or it is on its way there
	case n.rev == there.Rev && (e.wrote(there) || e.replaces(there)):
		e.Rev = string(n.rev)
	default: // somebody else's: it is seen when this makes way for it
		n.set(manifest.File{Rev: e.Rev})
		m.doubtHeld(p, anyRev)
	}
	if before := n.file; before != nil { // which this one replaced
		m.journal.end(before.kept.Load())
		before.stage.close()
		before.stage = nil
		_ = os.Remove(filepath.Join(m.stages(), before.stood))
		n.file = nil
	}
	f := m.openFile(n, true)
	f.cond = objstore.Cond{If: objstore.Rev(e.Rev), Absent: e.Rev == ""}
	f.stage = m.counted(&stage{file: file, size: e.File.Size, name: e.Stage})
	f.gen, f.asked, f.stood, f.line = 1, 1, e.Stage, e.Line
	f.kept.Store(m.journal.again(e))
	f.dirty.Store(true)
	m.tree.resize(n, e.File.Size)
	n.mtime, n.perm = e.File.MTime, uint16(e.File.Mode.Perm())
	n.setLink(*e.File)
	n.keepXattrs(e.File.Xattrs)
	f.handles, f.writers = 0, 0
	return f, nil
}

// of reports whether n is what the entry was about: in the journal before it, or at
// the revision of then, or at that of object, which a write was under way to make.
func (e entry) of(n *node, object objstore.Info) bool {
	switch {
	case e.Write != "" && n.copying() == e.Write:
		return true
	case n.file != nil && n.file.kept.Load() != 0 && (n.file.line == e.Line || e.Line == "" && e.Rev == ""):
		return true
	case n.rev == "":
		return false
	}
	return string(n.rev) == e.Rev || n.rev == object.Rev && e.wrote(object)
}

// over reports whether there, which is at target, is what the entry has n replace, or
// a copy of n.
func (e entry) over(there, n *node, target objstore.Info) bool {
	return string(there.rev) == e.Over || there.rev == target.Rev && e.replaces(target) || e.brought(there, target) || there.same(n)
}

// brought reports whether there, which is at target, is the copy that the entry was
// to make.
func (e entry) brought(there *node, target objstore.Info) bool {
	return e.Write != "" && there.rev != "" && there.rev == target.Rev && target.Meta[metaWrite] == e.Write
}

// unexpected describes the object at key when that is at another revision than rev.
// The journal does not know how a write ended that was under way when the former
// life did. Where the store does not say, nothing may be decided.
func (m *FS) unexpected(key, rev string) (objstore.Info, error) {
	p, _, _ := splitKey(key)
	m.tree.mu.RLock()
	n := m.tree.find(p)
	odd := n != nil && !n.is(isDir) && n.key() == key && n.rev != "" && string(n.rev) != rev
	m.tree.mu.RUnlock()
	if !odd {
		return objstore.Info{}, nil
	}
	info, err := m.look(m.ctx, p)
	if absent(err) {
		return objstore.Info{}, nil
	}
	return info, err
}

// wrote reports whether the object that info is of is an upload or a copy that was
// under way when the entry was made.
func (e entry) wrote(info objstore.Info) bool {
	return wrote(e.Line, info) || e.Write != "" && info.Meta[metaWrite] == e.Write
}

// replaces is wrote for what the entry was to replace.
func (e entry) replaces(info objstore.Info) bool {
	return entry{Line: e.OverLine, Write: e.OverWrite}.wrote(info)
}

// resumeDelete removes an object unless it is another one by now.
func (m *FS) resumeDelete(e entry) error {
	p, dir, ok := splitKey(e.Key)
	object, err := m.unexpected(e.Key, e.Rev)
	if err != nil {
		return err
	}
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(p)
	switch {
	case !ok || n == nil || n.is(isDir) != dir:
	case dir && n.kids.len() == 0:
		m.rmdir(n)
	case !dir && e.of(n, object):
		m.unlink(n)
	}
	return nil
}

// resumeMove goes on with a rename where both names may be there by now. What
// others wrote since then, to either, stays as it is.
func (m *FS) resumeMove(e entry) error {
	object, err := m.unexpected(e.Key, e.Rev)
	if err != nil {
		return err
	}
	target, err := m.unexpected(e.To, e.Over)
	if err != nil {
		return err
	}
	from, _, okFrom := splitKey(e.Key)
	to, _, okTo := splitKey(e.To)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(from)
	if !okFrom || !okTo || n == nil || n.is(isDir) {
		return nil
	}
	dir := m.tree.mkdirs(to.Dir(), n.mtime)
	if dir == nil {
		return nil
	}
	switch there := dir.kids.get(to.Base()); {
	case there != nil && there.is(isDir):
	case !e.of(n, object) || there != nil && !e.over(there, n, target):
		m.log.Warn("a rename is not gone on with: somebody else wrote one of the files meanwhile", "from", from, "to", to)
	case there != nil && e.brought(there, target) && (n.file == nil || n.file.kept.Load() == 0):
		m.unlink(n) // only the former name is left; else what was written since is to come
	default:
		if e.Write != "" {
			n.copy(e.Write)
		}
		m.rename(n, dir, to.Base())
	}
	return nil
}

// same reports whether two files are known to have the same content.
func (n *node) same(other *node) bool {
	return n.rev != "" && n.rev == other.rev || !n.hash.IsZero() && n.hash == other.hash && n.size == other.size
}

// resumeAttrs gives a file the mode and time that it was given, unless another
// version came with its own.
func (m *FS) resumeAttrs(e entry) {
	p, _, ok := splitKey(e.Key)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(p)
	if !ok || n == nil || n.is(isDir) || n.rev == "" || string(n.rev) != e.File.Rev {
		return
	}
	n.mtime, n.perm = e.File.MTime, uint16(e.File.Mode.Perm())
	n.keepXattrs(e.File.Xattrs)
	m.setAttrs(n)
}

func (m *FS) resumeMkdir(e entry) {
	p, _, ok := splitKey(e.Key)
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	n := m.tree.find(p)
	if !ok || n != nil && !n.is(isDir) {
		return
	}
	if n == nil {
		if n = m.tree.mkdirs(p, time.Now().UnixNano()); n == nil {
			return
		}
	}
	if e.File != nil {
		n.perm = uint16(e.File.Mode.Perm())
		n.keepXattrs(e.File.Xattrs)
	}
	n.flags &^= marked
	m.mark(n)
}
