package manifest

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"
)

// A Manifest is the full set of files of a source at one generation, in the
// bytewise order of their paths. Every step costs O(log n). It may be read by
// many goroutines while nobody writes.
type Manifest struct {
	files btree.Map[Path, record]
	// byHash names one path for every content, so that a renamed or copied
	// file is found again. A content whose named path went may be missing here
	// although another path has it: that costs a transfer, never a mistake.
	byHash map[Hash]Path
	count  int   // regular files
	bytes  int64 // their sizes
}

// A record is a file, and for an Index what proves it unchanged: one look-up
// finds both.
type record struct {
	File
	stat Stat // Dev is 0
}

// New returns an empty manifest.
func New() *Manifest { return &Manifest{byHash: make(map[Hash]Path)} }

// Get returns the file at p.
func (m *Manifest) Get(p Path) (File, bool) {
	r, ok := m.files.Get(p)
	return r.File, ok
}

// Find returns a file whose content has the hash h.
func (m *Manifest) Find(h Hash) (File, bool) {
	p, ok := m.byHash[h]
	if !ok {
		return File{}, false
	}
	return m.Get(p)
}

// Len returns the number of entries, directories included.
func (m *Manifest) Len() int { return m.files.Len() }

// Count returns the number of regular files.
func (m *Manifest) Count() int { return m.count }

// Bytes returns the sum of the sizes of the regular files.
func (m *Manifest) Bytes() int64 { return m.bytes }

// Put adds f, or replaces what stands at its path.
func (m *Manifest) Put(f File) { m.put(record{File: f}) }

// put is Put for a record; replaced says whether one stood there. In the order
// of the paths it costs O(1).
func (m *Manifest) put(r record) (replaced bool) {
	old, replaced := m.files.Load(r.Path, r)
	if replaced {
		m.uncount(old.File)
	}
	if !r.IsDir() {
		m.count++
		m.bytes += r.Size
		m.byHash[r.Hash] = r.Path
	}
	return replaced
}

// Delete removes the entry at p, and nothing below it.
func (m *Manifest) Delete(p Path) {
	if old, ok := m.files.Delete(p); ok {
		m.uncount(old.File)
	}
}

func (m *Manifest) uncount(old File) {
	if old.IsDir() {
		return
	}
	m.count--
	m.bytes -= old.Size
	if m.byHash[old.Hash] == old.Path {
		delete(m.byHash, old.Hash)
	}
}

// Apply makes the changes, in order.
func (m *Manifest) Apply(changes []Change) {
	for _, c := range changes {
		if c.Op == Delete {
			m.Delete(c.Path)
		} else {
			m.Put(c.File)
		}
	}
}

// All yields every entry in the order of the paths.
func (m *Manifest) All() iter.Seq[File] {
	return func(yield func(File) bool) {
		m.files.Scan(func(_ Path, r record) bool { return yield(r.File) })
	}
}

// Below yields every entry below directory dir, in the order of the paths.
func (m *Manifest) Below(dir Path) iter.Seq[File] {
	if dir == "" {
		return m.All()
	}
	return func(yield func(File) bool) {
		m.files.Ascend(dir+"/", func(p Path, r record) bool {
			return p.Within(dir) && yield(r.File)
		})
	}
}

// Children yields the entries directly in directory dir, in the order of the
// paths. What lies deeper is jumped over.
func (m *Manifest) Children(dir Path) iter.Seq[File] {
	prefix := dir
	if dir != "" {
		prefix += "/"
	}
	return func(yield func(File) bool) {
		it := m.files.Iter()
		for ok := it.Seek(prefix); ok; {
			p := it.Key()
			if !p.Within(dir) {
				return
			}
			name, _, deeper := strings.Cut(string(p[len(prefix):]), "/")
			if deeper {
				ok = it.Seek(prefix + Path(name) + "0") // '0' follows '/'
				continue
			}
			if !yield(it.Value().File) {
				return
			}
			ok = it.Next()
		}
	}
}

// Clone returns an independent copy of the files, in O(1): the two share what
// neither changes. The copy does not answer Find.
func (m *Manifest) Clone() *Manifest {
	return &Manifest{files: *m.files.Copy(), byHash: make(map[Hash]Path), count: m.count, bytes: m.bytes}
}

// Diff returns the changes that make b from a, in the order of the paths. A
// file that differs in its time or revision alone is no change.
func Diff(a, b *Manifest) []Change {
	var changes []Change
	nextA, stopA := iter.Pull(a.All())
	defer stopA()
	nextB, stopB := iter.Pull(b.All())
	defer stopB()
	fa, okA := nextA()
	fb, okB := nextB()
	for okA || okB {
		switch {
		case !okB || okA && fa.Path < fb.Path:
			changes = append(changes, Change{Op: Delete, File: File{Path: fa.Path}})
			fa, okA = nextA()
		case !okA || fb.Path < fa.Path:
			changes = append(changes, Change{Op: Put, File: fb})
			fb, okB = nextB()
		default:
			if !fa.Same(fb) {
				changes = append(changes, Change{Op: Put, File: fb})
			}
			fa, okA = nextA()
			fb, okB = nextB()
		}
	}
	return changes
}

// Squash returns changes with only the last one for every path, in the order
// in which those last ones stand.
func Squash(changes []Change) []Change {
	last := make(map[Path]int, len(changes))
	for i, c := range changes {
		last[c.Path] = i
	}
	out := make([]Change, 0, len(last))
	for i, c := range changes {
		if last[c.Path] == i {
			out = append(out, c)
		}
	}
	return out
}
