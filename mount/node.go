package mount

import (
	"path"
	"slices"
	"strings"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// A node is one version of a file, or a directory. The kernel knows it by its
// id as long as it has looked it up; another version of the same name is
// another node with the same ino, so that nothing cached of the one is ever
// taken for the other. All fields are guarded by the tree's mutex, except
// where they never change.
type node struct {
	name   string
	parent *node // nil for the root; kept when the node is detached
	kids   *kids // nil for a file

	id      uint64 // the kernel's name for it; 0 while it does not know it
	ino     uint64 // what stat shows; never changes
	lookups uint64 // of the kernel, less what it forgot

	size  int64
	mtime int64 // nanoseconds since 1970
	rev   objstore.Rev
	hash  manifest.Hash
	more  *details // nil for most
	file  *file    // nil unless it is open, or not all of it is in the bucket
	perm  uint16   // permission bits
	flags nodeFlags
}

// details are what few nodes have.
type details struct {
	partSize int64
	parts    []manifest.Hash
	xattrs   manifest.Xattrs
	key      string // where the content stands, while a rename is under way; "" is at its path
	write    string // the write-id of copies that are under way
}

type nodeFlags uint8

const (
	isDir    nodeFlags = 1 << iota
	detached           // no longer at its name: replaced or removed
	removed            // by this mount: nobody asks for what is written to it
	marked             // a directory with an object of its own, its marker
	logged             // its state comes from a source's log
	isLink             // a symlink: its content is its target
)

func (n *node) is(f nodeFlags) bool { return n.flags&f != 0 }

// path returns where n stands, or stood when it is detached; "" is the root.
func (n *node) path() manifest.Path {
	if n.parent == nil {
		return ""
	}
	if n.parent.parent == nil {
		return manifest.Path(n.name)
	}
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return manifest.Path(strings.Join(names, "/"))
}

// within reports whether n is dir or lies below it.
func (n *node) within(dir *node) bool {
	for ; n != nil; n = n.parent {
		if n == dir {
			return true
		}
	}
	return false
}

// key returns where the content of n stands in the bucket.
func (n *node) key() string {
	if n.more != nil && n.more.key != "" {
		return n.more.key
	}
	return string(n.path())
}

// object names the content of n.
func (n *node) object() blocks.Object {
	o := blocks.Object{Key: n.key(), Rev: n.rev, Size: n.size, Hash: n.hash}
	if n.more != nil {
		o.PartSize, o.Parts = n.more.partSize, n.more.parts
	}
	return o
}

// set gives n the state of f, which the bucket has at its path. What may be cut
// from something longer is copied: there are millions of nodes.
func (n *node) set(f manifest.File) {
	n.size, n.mtime, n.rev, n.hash, n.perm = f.Size, f.MTime, objstore.Rev(strings.Clone(f.Rev)), f.Hash, uint16(f.Mode.Perm())
	n.setLink(f)
	var key, write string
	if n.more != nil {
		key, write = n.more.key, n.more.write
	}
	n.more = nil
	if f.PartSize > 0 || key != "" || write != "" || f.Xattrs != "" {
		n.more = &details{partSize: f.PartSize, parts: f.Parts, xattrs: f.Xattrs, key: key, write: write}
	}
}

// lie notes that the bucket has the content of n at key, which need not be its
// path. What others may hold of n's details stays as it is.
func (n *node) lie(key string) {
	if !n.is(detached) && string(n.path()) == key {
		key = ""
	}
	if n.more == nil && key == "" {
		return
	}
	var more details
	if n.more != nil {
		more = *n.more
	}
	if more.key = key; key == "" {
		more.write = ""
	}
	n.more = &more
}

// copying returns the write-id of copies of n that are under way; "" is none.
func (n *node) copying() string {
	if n.more == nil {
		return ""
	}
	return n.more.write
}

// copy notes that a copy of n is under way, with the write-id id unless another is
// before it, and returns that.
func (n *node) copy(id string) string {
	if n.copying() != "" {
		return n.copying()
	}
	var more details
	if n.more != nil {
		more = *n.more
	}
	more.write = id
	n.more = &more
	return id
}

// setLink makes n a symlink if f is one, and a file otherwise.
func (n *node) setLink(f manifest.File) {
	n.flags &^= isLink
	if f.IsLink() {
		n.flags |= isLink
	}
}

// state returns n as a file of a manifest.
func (n *node) state() manifest.File {
	f := manifest.File{Path: n.path(), Mode: n.fileMode(), Size: n.size, MTime: n.mtime, Hash: n.hash, Rev: string(n.rev)}
	if n.more != nil {
		f.PartSize, f.Parts, f.Xattrs = n.more.partSize, n.more.parts, n.more.xattrs
	}
	return f
}

// markerKey is the object that stands for directory p.
func markerKey(p manifest.Path) string { return string(p) + "/" }

// hidden reports whether name in directory dir is skyagent's own.
func hidden(dir *node, name string) bool {
	return dir.parent == nil && name == manifest.Reserved
}

// splitKey returns the path that a key of the bucket stands for, and whether it
// is a directory's marker. Keys that can be no path are none of ours to show.
func splitKey(key string) (p manifest.Path, dir, ok bool) {
	name, dir := strings.CutSuffix(key, "/")
	if path.Clean(name) != name {
		return "", false, false
	}
	p, err := manifest.ParsePath(name)
	return p, dir, err == nil
}
