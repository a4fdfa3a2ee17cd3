package mount

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// An early holds back news that come before the tree is there.
type early struct {
	mu   sync.Mutex // guards the rest
	open bool
	news []News
}

// keep takes n in, and reports whether it did.
func (e *early) keep(n News) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open {
		return false
	}
	e.news = append(e.news, n)
	return true
}

// release hands what was kept to hear, and lets the rest pass from then on.
func (e *early) release(hear func(News)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.news {
		hear(n)
	}
	e.news, e.open = nil, true
}

// load reads the whole tree: from one listing what is there, and from the logs
// and notes what a listing does not tell of it.
func (m *FS) load(ctx context.Context) error {
	known, err := m.loadLogs(ctx)
	if err != nil {
		return err
	}
	noted, err := m.loadNotes(ctx)
	if err != nil {
		return err
	}
	m.tree.mu.Lock()
	for f := range known.All() {
		if f.IsDir() {
			m.loadDir(f)
		}
	}
	m.tree.mu.Unlock()
	for info, err := range m.opt.Store.List(ctx, "", "") {
		if err != nil {
			return err
		}
		m.loadObject(info, known, noted)
	}
	return nil
}

func (m *FS) loadDir(f manifest.File) {
	if dir := m.tree.mkdirs(f.Path, f.MTime); dir != nil {
		dir.perm = uint16(f.Mode.Perm())
		dir.flags |= logged
	}
}

// loadObject takes one object of the listing.
func (m *FS) loadObject(info objstore.Info, known *manifest.Manifest, noted map[manifest.Path]manifest.Write) {
	p, dir, ok := splitKey(info.Key)
	if !ok || p.Top() == manifest.Reserved {
		return
	}
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	if dir {
		if n := m.tree.mkdirs(p, info.ModTime.UnixNano()); n != nil {
			n.flags |= marked
			if w, ok := noted[p]; ok && w.IsDir() {
				n.perm = uint16(w.Mode.Perm())
				n.keepXattrs(w.Xattrs)
			}
		}
		return
	}
	f, logged := known.Get(p)
	if logged = logged && f.Rev == string(info.Rev); !logged {
		f = fileOf(p, info)
		if w, ok := noted[p]; ok && w.Op == manifest.Put && w.Rev == f.Rev {
			f = w.File
		}
	} else if w, ok := noted[p]; ok && w.Rev == f.Rev {
		f.Xattrs = w.Xattrs // which no source gives
	}
	m.install(f, logged)
}

// loadLogs reads the logs of all sources.
func (m *FS) loadLogs(ctx context.Context) (*manifest.Manifest, error) {
	all := manifest.New()
	sources, err := m.opt.Sources(ctx)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		files, pos, err := m.opt.Logs(source).Load(ctx)
		if errors.Is(err, manifest.ErrNoLog) {
			continue
		}
		if files == nil {
			return nil, fmt.Errorf("log of source %s: %w", source, err)
		}
		if all.Len() == 0 {
			all = files // most have one source, and need no copy
		} else {
			for f := range files.All() {
				all.Put(f)
			}
		}
		m.mu.Lock()
		m.logs[source] = pos
		m.mu.Unlock()
	}
	return all, nil
}

func (m *FS) loadNotes(ctx context.Context) (map[manifest.Path]manifest.Write, error) {
	last := map[manifest.Path]manifest.Write{}
	if m.opt.Notes == nil {
		return last, nil
	}
	notes, pos, err := m.opt.Notes.Since(ctx, m.noted)
	if err != nil {
		return nil, err
	}
	for _, w := range notes {
		for _, c := range w.Changes {
			last[c.Path] = c
		}
	}
	m.noted = pos
	return last, nil
}

// catchUp reads what was missed: the logs and the notes since they were last
// read. It costs two listings when there is nothing.
func (m *FS) catchUp(ctx context.Context) error {
	if err := m.catchUpLogs(ctx); err != nil {
		return err
	}
	if m.opt.Notes == nil {
		return nil
	}
	notes, pos, err := m.opt.Notes.Since(ctx, m.noted)
	if err != nil {
		return err
	}
	for _, n := range notes {
		if n.Session == m.opt.Life {
			continue
		}
		for _, w := range n.Changes {
			m.takeNoted(w)
		}
	}
	m.noted = pos
	return nil
}

// takeNoted takes a change that is known from a note: what came since may be
// newer, so the bucket is asked unless the tree has it already.
func (m *FS) takeNoted(w manifest.Write) {
	m.tree.mu.RLock()
	n := m.tree.find(w.Path)
	same := n != nil && !n.is(isDir) && w.Op == manifest.Put && !n.differs(w.File)
	gone := n == nil && w.Op == manifest.Delete
	m.tree.mu.RUnlock()
	switch {
	case gone:
	case same:
		m.take(w, false) // a listing has not told its mode, time and attributes
	case w.IsDir() || w.Mode.IsDir():
		m.takeDir(w, false)
	default:
		m.doubt(string(w.Path))
	}
}

func (m *FS) catchUpLogs(ctx context.Context) error {
	sources, err := m.opt.Sources(ctx)
	if err != nil {
		return err
	}
	for _, source := range sources {
		if err := m.catchUpLog(ctx, source); err != nil {
			return fmt.Errorf("log of source %s: %w", source, err)
		}
	}
	return nil
}

func (m *FS) catchUpLog(ctx context.Context, source string) error {
	m.mu.Lock()
	pos := m.logs[source]
	m.mu.Unlock()
	commits, head, err := m.opt.Logs(source).Since(ctx, pos)
	if errors.Is(err, manifest.ErrGap) {
		_, head, err = m.opt.Logs(source).Load(ctx)
		m.reconcileSoon()
	}
	if err != nil && !errors.Is(err, manifest.ErrNoLog) {
		return err
	}
	m.takeLog(source, pos, head, commits)
	return nil
}

// takeLog takes what follows pos in the log of source, unless events were faster.
func (m *FS) takeLog(source string, pos, head manifest.Position, commits []manifest.Commit) {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.mu.Lock()
	faster := m.logs[source] != pos
	if !faster {
		m.logs[source] = head
	}
	m.mu.Unlock()
	if faster {
		return
	}
	for _, c := range commits {
		m.takeCommit(c.Changes)
	}
}

// reconcile compares the tree with a listing of what lies below prefix, and asks
// about all that differs: strangers write without a word.
func (m *FS) reconcile(ctx context.Context, prefix string) error {
	m.count.reconciled.Add(1)
	began := time.Now()
	seen := map[string]bool{}
	for info, err := range m.opt.Store.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		m.compare(info, seen)
	}
	m.missing(prefix, seen, began)
	return nil
}

func (m *FS) compare(info objstore.Info, seen map[string]bool) {
	p, dir, ok := splitKey(info.Key)
	if !ok || p.Top() == manifest.Reserved {
		return
	}
	seen[info.Key] = true
	m.tree.mu.RLock()
	n := m.tree.find(p)
	same := n != nil && (n.is(isDir) == dir) && (dir || n.rev == info.Rev)
	m.tree.mu.RUnlock()
	switch {
	case same:
	case dir:
		m.takeDir(manifest.Write{Change: manifest.Change{Op: manifest.Put,
			File: manifest.File{Path: p, Mode: 0o755 | dirMode, MTime: info.ModTime.UnixNano()}}}, false)
	default:
		m.doubt(info.Key)
	}
}

// missing asks about the files and markers below prefix that a listing has not
// shown, and removes directories that nothing speaks for.
func (m *FS) missing(prefix string, seen map[string]bool, began time.Time) {
	var doubts []string
	var empty []*node
	m.tree.mu.RLock()
	m.tree.root.below(func(n *node) {
		key := n.key()
		if n.is(isDir) {
			key = markerKey(n.path())
		}
		switch {
		case !strings.HasPrefix(key, prefix) || seen[key]:
		case n.is(isDir) && !n.is(marked):
			if n.kids.len() == 0 {
				empty = append(empty, n)
			}
		case n.is(isDir) || n.rev != "":
			doubts = append(doubts, key)
		}
	})
	m.tree.mu.RUnlock()
	m.doubt(doubts...)
	m.prune(empty...)
	m.log.Debug("compared with the bucket", "prefix", prefix, "missing", len(doubts), "took", time.Since(began))
}
