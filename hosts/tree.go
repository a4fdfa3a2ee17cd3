package hosts

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// A path is something in a source, by its name relative to the source's root,
// with slashes. It need not be UTF-8.
type path struct {
	name string
	dir  bool
}

// A node is what is known of one path: what kind it is, and a stamp that differs
// whenever the path may have changed. 0 is like no stamp, not even itself.
type node struct {
	dir   bool
	stamp uint64
	below map[string]*node // of a directory, by name
	// unread says that the directory could not be listed. What was known below
	// it is not gone.
	unread bool
}

// same reports whether nothing happened between was and is.
func (n *node) same(is *node) bool { return n.stamp == is.stamp && n.stamp != 0 }

// A tree is what a source has, but for what is ignored.
type tree struct {
	root    string
	rules   *ignore.Rules
	top     *node
	files   int      // all but directories
	skipped []string // what cannot be sent, with the reason; the first few
}

const maxSkipped = 20

func newTree(root string, rules *ignore.Rules) *tree {
	return &tree{root: root, rules: rules, top: &node{dir: true, below: map[string]*node{}}}
}

// judge returns what says what is ignored, for one batch.
func (t *tree) judge() *manifest.Judge { return manifest.OneDir(t.root).Ignoring(t.rules).Judge() }

// scan looks at the whole source. old, which may be nil, stands in for what cannot be read.
func scan(root string, rules *ignore.Rules, old *tree) (*tree, error) {
	fi, err := os.Stat(root)
	if err == nil && !fi.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, err
	}
	t := newTree(root, rules)
	var was *node
	if old != nil {
		was = old.top
	}
	if t.list(t.top, "", rules.Root(root), was); t.top.unread {
		return nil, fs.ErrPermission
	}
	return t, nil
}

// list fills in what is below the directory n, whose entries rules judge.
func (t *tree) list(n *node, name string, rules ignore.Dir, was *node) {
	entries, err := os.ReadDir(filepath.Join(t.root, filepath.FromSlash(name)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.unread = true
		t.skip(name, "the directory cannot be read")
		if was != nil && was.below != nil {
			n.below = was.below
			t.files += n.count()
		}
		return
	}
	for _, e := range entries {
		if rules.Match(e.Name(), e.IsDir()) != nil {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			continue // gone since: an event tells
		}
		child := join(name, e.Name())
		made := t.nodeOf(child, fi)
		if made == nil {
			continue
		}
		n.below[e.Name()] = made
		if !made.dir {
			t.files++
			continue
		}
		var before *node
		if was != nil {
			before = was.below[e.Name()]
		}
		t.list(made, child, rules.Enter(e.Name()), before)
	}
}

// nodeOf makes a node of what was found; nil when rsync is not to send it.
func (t *tree) nodeOf(name string, fi fs.FileInfo) *node {
	switch fi.Mode().Type() {
	case fs.ModeDir:
		return &node{dir: true, stamp: uint64(fi.Mode()) | 1, below: map[string]*node{}}
	case 0, fs.ModeSymlink:
		return &node{stamp: stampOf(fi)}
	}
	t.skip(name, "it is a FIFO, a socket or a device")
	return nil
}

func (t *tree) skip(name, why string) {
	if len(t.skipped) < maxSkipped {
		t.skipped = append(t.skipped, name+": "+why)
	}
}

// stampOf condenses what changes with a file. A file that changed a moment ago
// may change again and keep its times: it gets no stamp, and is sent again
// whenever it is looked at.
func stampOf(fi fs.FileInfo) uint64 {
	st := manifest.StatOf(fi)
	if st.Fresh(time.Now()) {
		return 0
	}
	h := fnv.New64a()
	var b [8]byte
	for _, v := range []uint64{st.Ino, uint64(st.Size), uint64(st.MTime), uint64(st.CTime), uint64(st.Mode)} {
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	return h.Sum64() | 1
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// split returns the directory and the last element of a name.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// at returns the node of a name, nil for none. "" is the root.
func (t *tree) at(name string) *node {
	n := t.top
	if name == "" {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		if n = n.below[part]; n == nil {
			return nil
		}
	}
	return n
}

// count returns how many files are at and below n.
func (n *node) count() int {
	if !n.dir {
		return 1
	}
	files := 0
	for _, c := range n.below {
		files += c.count()
	}
	return files
}

// each calls f for n, unless it is the root, and all below it, parents first.
func (n *node) each(name string, f func(name string, n *node)) {
	if name != "" {
		f(name, n)
	}
	for _, base := range slices.Sorted(maps.Keys(n.below)) {
		n.below[base].each(join(name, base), f)
	}
}

// A delta is how a source differs from what was known.
type delta struct {
	changed []string // there, and new or other than before
	gone    []path
}

// since returns how t differs from what old had.
func (t *tree) since(old *tree) delta {
	var d delta
	d.compare("", old.top, t.top)
	return d
}

func (d *delta) compare(name string, old, now *node) {
	for base, was := range old.below {
		if is := now.below[base]; is == nil || was.dir && !is.dir {
			d.lost(join(name, base), was, is != nil)
		}
	}
	for _, base := range slices.Sorted(maps.Keys(now.below)) {
		is, was, child := now.below[base], old.below[base], join(name, base)
		if was == nil || was.dir != is.dir || !was.same(is) {
			d.changed = append(d.changed, child)
		}
		if is.dir && was != is { // the same node: it was not read
			if was == nil || !was.dir {
				was = &node{}
			}
			d.compare(child, was, is)
		}
	}
}

// lost notes what was at and below name. What has been replaced is not gone
// itself unless it was a directory, which must go first.
func (d *delta) lost(name string, was *node, replaced bool) {
	if !was.dir && replaced {
		return
	}
	was.each(name, func(name string, n *node) { d.gone = append(d.gone, path{name, n.dir}) })
}

// look brings t up to date at one name, and adds to d how it differed. What is
// ignored is like what is not there.
func (t *tree) look(name string, judge *manifest.Judge, d *delta) {
	dir, base := split(name)
	parent := t.parent(dir, judge, d)
	if parent == nil {
		t.drop(name, d)
		return
	}
	was := parent.below[base]
	fi, err := os.Lstat(filepath.Join(t.root, filepath.FromSlash(name)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return // it cannot be seen, which is not that it is gone
	}
	var is *node
	if err == nil && judge.Ignores(manifest.Path(name), fi.IsDir()) == nil {
		is = t.nodeOf(name, fi)
	}
	if is == nil || was != nil && was.dir != is.dir {
		t.drop(name, d)
		was = nil
	}
	switch {
	case is == nil:
	case was == nil || !was.same(is):
		d.changed = append(d.changed, name)
		if was == nil && !is.dir {
			t.files++
		}
		if was != nil {
			is.below = was.below
		}
		parent.below[base] = is
	}
	if is != nil && is.dir {
		t.lookBelow(name, d)
	}
}

// lookBelow drops the names directly in a directory that are gone.
func (t *tree) lookBelow(name string, d *delta) {
	for base := range t.at(name).below {
		child := join(name, base)
		if _, err := os.Lstat(filepath.Join(t.root, filepath.FromSlash(child))); errors.Is(err, fs.ErrNotExist) {
			t.drop(child, d)
		}
	}
}

// parent returns the node of a directory, and makes it known when it was not.
// It returns nil when something else is there, since what is behind a link is not
// in the source, and when it is ignored.
func (t *tree) parent(name string, judge *manifest.Judge, d *delta) *node {
	n, sofar := t.top, ""
	if name == "" {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		sofar = join(sofar, part)
		next := n.below[part]
		if next == nil || !next.dir { // the batch may name it after what is in it
			fi, err := os.Lstat(filepath.Join(t.root, filepath.FromSlash(sofar)))
			if err != nil || !fi.IsDir() || judge.Ignores(manifest.Path(sofar), true) != nil {
				return nil
			}
			t.drop(sofar, d)
			next = t.nodeOf(sofar, fi)
			n.below[part] = next
			d.changed = append(d.changed, sofar)
		}
		n = next
	}
	return n
}

// drop forgets name and what is below it, and notes it as gone.
func (t *tree) drop(name string, d *delta) {
	n := t.at(name)
	if n == nil {
		return
	}
	d.lost(name, n, false)
	t.files -= n.count()
	dir, base := split(name)
	delete(t.at(dir).below, base)
}
