package watcher

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// A tree is the set of directories of a source and their watches. It belongs
// to the keeper's goroutine.
//
// The rule that keeps it right: a name that any event says was bound anew is
// looked at again from scratch. Whatever was watched under that name is removed
// first, all of it, because the backend goes on reporting a moved directory
// under its old name and takes its inode for watched. The order in which such
// names are looked at does not matter.
type tree struct {
	root    string // absolute, without a symbolic link
	only    string // the one name in the root that counts; "" when all do
	rules   *ignore.Rules
	judge   *manifest.Judge // of the walk or step that is under way
	backend Backend
	log     *slog.Logger
	found   func(manifest.Path) // is told of every name below a directory that came up, and of every directory that went

	top     *node
	byInode map[inode]*node // watched nodes
	count   [states]int     // nodes by watch
	remote  bool            // a network file system is part of it
	warned  bool            // that watches are exhausted
}

// A node is one directory.
type node struct {
	parent   *node // nil at the top
	name     string
	children map[string]*node // nil when there are none
	id       identity
	watch    watch
}

// A watch says whether a node's directory is watched.
type watch uint8

const (
	watched   watch = iota
	exhausted       // no watch left: polled
	alias           // the same directory as another node: polled
	denied          // not readable: skipped
	states
)

func newTree(root string, id identity, b Backend, log *slog.Logger, found func(manifest.Path)) *tree {
	top := &node{id: id}
	return &tree{root: root, backend: b, log: log, found: found, top: top, byInode: map[inode]*node{}}
}

// begin has rules read anew: by what follows until the next begin.
func (t *tree) begin() { t.judge = manifest.OneDir(t.root).Ignoring(t.rules).Judge() }

// unwatched returns the number of directories that have to be polled.
func (t *tree) unwatched() int { return t.count[exhausted] + t.count[alias] }

// path returns where n is in the source.
func (n *node) path() manifest.Path {
	if n.parent == nil {
		return ""
	}
	return n.parent.path().Join(n.name)
}

// disk returns where p is on disk.
func (t *tree) disk(p manifest.Path) string {
	if p == "" {
		return t.root
	}
	return filepath.Join(t.root, filepath.FromSlash(string(p)))
}

// find returns the node of p, or nil.
func (t *tree) find(p manifest.Path) *node {
	n, rest := t.top, string(p)
	for rest != "" && n != nil {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		n = n.children[name]
	}
	return n
}

// rebind looks at p, a name that may be bound to something else now because of
// the operations op.
func (t *tree) rebind(ctx context.Context, p manifest.Path, op fsnotify.Op) {
	parent := t.find(p.Dir())
	if parent == nil {
		return // p is found when its directory is
	}
	n := parent.children[p.Base()]
	switch {
	case op&bound == 0 && (n == nil || n.watch != denied):
		return // a chmod matters to what could not be read
	case op == fsnotify.Create && n != nil && t.still(n, p):
		return // the walk that found it came after the event
	}
	if n != nil {
		t.drop(n, p)
	}
	t.visit(ctx, parent, p, false)
}

// still reports whether n's directory is where it was watched.
func (t *tree) still(n *node, p manifest.Path) bool {
	id, err := identify(t.disk(p))
	return err == nil && n.watch == watched && n.id == id
}

// drop removes n and all below it, with their watches. p is n's path. Every
// directory dropped is told of: another one may stand there by the time the
// reader looks, and then only a look into it shows which of its files went.
func (t *tree) drop(n *node, p manifest.Path) {
	t.found(p)
	for name, c := range n.children {
		t.drop(c, p.Join(name))
	}
	if n.watch == watched {
		t.backend.Remove(t.disk(p)) // an error says that it is gone already
	}
	if t.byInode[n.id.inode] == n {
		delete(t.byInode, n.id.inode)
	}
	t.count[n.watch]--
	if n.parent != nil {
		delete(n.parent.children, n.name)
	}
}

// add puts the directory at p below parent and watches it.
func (t *tree) add(parent *node, p manifest.Path, id identity) *node {
	n := &node{parent: parent, name: p.Base(), id: id}
	if t.isAlias(n) {
		n.watch = alias
		t.log.Debug("directory has two names", "path", p)
	} else if t.find(p.Dir()) != parent {
		return nil // the look for an alias found that parent itself was moved
	} else if w, err := t.watch(p); err != nil {
		return nil
	} else {
		n.watch = w
	}
	if parent.children == nil {
		parent.children = map[string]*node{}
	}
	parent.children[n.name] = n
	t.added(n, p)
	return n
}

// added counts n, which is part of the tree now.
func (t *tree) added(n *node, p manifest.Path) {
	t.count[n.watch]++
	if n.watch == watched && n.id.inode != (inode{}) {
		t.byInode[n.id.inode] = n
	}
	if n.parent == nil || n.parent.id.dev != n.id.dev {
		t.remote = t.remote || remote(t.disk(p))
	}
}

// again tries to watch a directory that could not be watched before.
func (t *tree) again(n *node, p manifest.Path) {
	if n.watch == alias && t.isAlias(n) || t.find(p) != n {
		return
	}
	if t.backend.Add(t.disk(p)) == nil {
		t.count[n.watch]--
		n.watch = watched
		t.added(n, p)
	}
}

// isAlias reports whether n's directory is watched under another name and still
// there: inotify has one watch for both. When it is no longer there it was
// moved, the event has yet to come, and the old name is dropped now: the
// backend would take the new one for watched.
func (t *tree) isAlias(n *node) bool {
	other := t.byInode[n.id.inode]
	if other == nil {
		return false
	}
	id, err := identify(t.disk(other.path()))
	if err == nil && id.inode == n.id.inode {
		return true
	}
	t.drop(other, other.path())
	return false
}

// watch watches the directory at p. Its error means that p is no directory any
// more, which another event tells.
func (t *tree) watch(p manifest.Path) (watch, error) {
	err := t.backend.Add(t.disk(p))
	switch {
	case err == nil:
		return watched, nil
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return 0, err
	case errors.Is(err, syscall.ENOSPC):
		if !t.warned {
			t.warned = true
			t.log.Warn("no more directories can be watched, the others are polled: raise the limit with sysctl fs.inotify.max_user_watches=1048576",
				"watched", t.count[watched], "path", p)
		}
		return exhausted, nil
	}
	if errors.Is(err, syscall.EACCES) {
		t.log.Debug("directory cannot be watched", "path", p, "err", err) // a scan reports it
		return denied, nil
	}
	t.log.Warn("directory cannot be watched", "path", p, "err", err)
	return denied, nil
}
