package mount

import (
	"cmp"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/skyagent/skyagent/manifest"
)

// A tree is all that the mount knows of the bucket, in memory: no look-up, stat
// or listing ever waits for the network.
type tree struct {
	mu    sync.RWMutex // guards all nodes and what follows
	root  *node
	known map[uint64]*node // by id: what the kernel knows
	next  uint64           // the last id given out
	ino   uint64           // the last ino given out
	files int
	bytes int64
}

const rootID = 1

func newTree(now int64) *tree {
	root := &node{kids: &kids{}, id: rootID, ino: rootID, lookups: 1, perm: 0o755, mtime: now, flags: isDir}
	// Numbers of files begin anywhere, so that those of two mounts, or of a mount
	// and a local disk, are not taken for each other (see holds).
	return &tree{root: root, known: map[uint64]*node{rootID: root}, next: rootID, ino: 1<<32 + uint64(rand.Uint32())<<20}
}

func (n *node) fileMode() fs.FileMode {
	m := fs.FileMode(n.perm).Perm()
	if n.is(isDir) {
		m |= fs.ModeDir
	}
	if n.is(isLink) {
		m |= fs.ModeSymlink
	}
	return m
}

// find returns the node at p, or nil. The mutex is held, as for all below.
func (t *tree) find(p manifest.Path) *node {
	n := t.root
	for p != "" && n != nil {
		name, rest, _ := strings.Cut(string(p), "/")
		n, p = n.kids.get(name), manifest.Path(rest)
	}
	return n
}

// mkdirs returns the directory at p, made with its parents where there is none;
// nil when a file is in the way.
func (t *tree) mkdirs(p manifest.Path, mtime int64) *node {
	n := t.root
	for p != "" {
		name, rest, _ := strings.Cut(string(p), "/")
		kid := n.kids.get(name)
		if kid == nil {
			kid = t.add(n, name, isDir)
			kid.perm, kid.mtime = 0o755, cmp.Or(mtime, t.root.mtime)
		}
		if !kid.is(isDir) {
			return nil
		}
		n, p = kid, manifest.Path(rest)
	}
	return n
}

// add makes a node at name in dir, which has none. It copies the name, which
// may be cut from something longer.
func (t *tree) add(dir *node, name string, flags nodeFlags) *node {
	t.ino++
	n := &node{name: strings.Clone(name), parent: dir, ino: t.ino, flags: flags}
	if flags&isDir != 0 {
		n.kids = &kids{}
	}
	t.link(dir, n)
	return n
}

// link puts n at its name in dir.
func (t *tree) link(dir, n *node) {
	n.parent = dir
	n.flags &^= detached
	dir.kids.put(n)
	if !n.is(isDir) {
		t.files++
		t.bytes += n.size
	}
}

// unlink takes n from its name. The kernel may know it for longer.
func (t *tree) unlink(n *node) {
	if n.is(detached) {
		return
	}
	n.parent.kids.drop(n.name)
	n.flags |= detached
	if !n.is(isDir) {
		t.files--
		t.bytes -= n.size
	}
}

// resize changes the size of n.
func (t *tree) resize(n *node, size int64) {
	if !n.is(detached | isDir) {
		t.bytes += size - n.size
	}
	n.size = size
}

// replace returns a node for another version of n, at its place. One that the
// kernel has never seen is that itself.
func (t *tree) replace(n *node) *node {
	if n.id == 0 && n.file == nil {
		n.more = nil // where the former content stood
		return n
	}
	t.unlink(n)
	fresh := &node{name: n.name, parent: n.parent, ino: n.ino, flags: n.flags &^ detached}
	t.link(n.parent, fresh)
	return fresh
}

// take gives the kernel n, once more.
func (t *tree) take(n *node) {
	if n.id == 0 {
		t.next++
		n.id = t.next
		t.known[n.id] = n
	}
	n.lookups++
}

// forget takes back count look-ups of the kernel.
func (t *tree) forget(id, count uint64) {
	n := t.known[id]
	if n == nil || n == t.root {
		return
	}
	if n.lookups -= min(count, n.lookups); n.lookups == 0 {
		delete(t.known, id)
		n.id = 0
	}
}

// names returns the names in dir, in order.
func (n *node) names() []string {
	names := make([]string, 0, n.kids.len())
	for kid := range n.kids.all() {
		names = append(names, kid.name)
	}
	return names
}

// each calls visit for n and for all below it, parents first.
func (n *node) each(visit func(*node)) {
	visit(n)
	n.below(visit)
}

// below calls visit for every file and directory below dir, parents first.
func (n *node) below(visit func(*node)) {
	for kid := range n.kids.all() {
		visit(kid)
		if kid.is(isDir) {
			kid.below(visit)
		}
	}
}

// count returns how many files and directories lie below n, or most when there
// are more.
func (n *node) count(most int) int {
	count := 0
	for kid := range n.kids.all() {
		if count >= most {
			break
		}
		count++
		if kid.is(isDir) {
			count += kid.count(most - count)
		}
	}
	return count
}
