package mount

import (
	"slices"
	"strings"
	"syscall"

	"github.com/skyagent/skyagent/manifest"
)

// xattrSpace is the namespace of what programs may keep with a file.
const xattrSpace = "user."

// Flags of setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// xattrs returns the extended attributes of n.
func (n *node) xattrs() manifest.Xattrs {
	if n.more == nil {
		return ""
	}
	return n.more.xattrs
}

// keepXattrs gives n attributes. What others hold of its details stays as it is.
func (n *node) keepXattrs(x manifest.Xattrs) {
	if x == n.xattrs() {
		return
	}
	more := details{}
	if n.more != nil {
		more = *n.more
	}
	more.xattrs = x
	n.more = &more
}

// xattr returns the value of an attribute of n. The tree's mutex is held.
func (m *FS) xattr(n *node, name string) ([]byte, error) {
	if !strings.HasPrefix(name, xattrSpace) {
		return nil, syscall.EOPNOTSUPP
	}
	if n.xattrs() == "" {
		return nil, syscall.ENODATA
	}
	value, ok := n.xattrs().Decode()[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return value, nil
}

// setXattr gives n an attribute, or takes it away where value is nil. It goes to
// the bucket as modes and times do. The tree's mutex is held.
func (m *FS) setXattr(n *node, name string, value []byte, flags uint32) error {
	switch {
	case m.opt.ReadOnly:
		return syscall.EROFS
	case !strings.HasPrefix(name, xattrSpace) || n.parent == nil:
		return syscall.EOPNOTSUPP // the root has no object that would keep it
	case name == xattrSpace:
		return syscall.EINVAL
	}
	attrs := n.xattrs().Decode()
	_, has := attrs[name]
	switch {
	case has && flags&xattrCreate != 0:
		return syscall.EEXIST
	case !has && (flags&xattrReplace != 0 || value == nil):
		return syscall.ENODATA
	}
	if attrs[name] = value; value == nil {
		delete(attrs, name)
	}
	x := manifest.EncodeXattrs(attrs)
	if len(x) > manifest.MaxXattrs {
		return syscall.ENOSPC
	}
	n.keepXattrs(x)
	m.setAttrs(n)
	return nil
}

// xattrNames returns the names of n's attributes, each with a zero behind it.
func (n *node) xattrNames() string {
	var names []string
	for name := range n.xattrs().Decode() {
		names = append(names, name+"\x00")
	}
	slices.Sort(names)
	return strings.Join(names, "")
}
