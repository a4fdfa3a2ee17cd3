package manifest

import (
	"path/filepath"
	"strings"

	"github.com/skyagent/skyagent/ignore"
)

// A Place is a directory whose files are part of a Tree.
type Place struct {
	Dir string // absolute path on disk

	// At is the name under which the place is seen at the top of the tree. ""
	// puts what is in Dir there, and is then the only place.
	At string
	// Only says that At alone, a name in Dir, is seen of it.
	Only bool
}

// A Tree says where the paths of a source are on disk: all below one directory,
// or each name at the top in a place of its own.
type Tree struct {
	one    string // of the only place, which has no name
	places []Place
	rules  *ignore.Rules
}

// OneDir returns the tree of what is in dir.
func OneDir(dir string) Tree { return TreeOf(Place{Dir: dir}) }

// TreeOf returns the tree of places, which have names that differ.
func TreeOf(places ...Place) Tree {
	t := Tree{places: places}
	if len(places) == 1 && places[0].At == "" {
		t.one = places[0].Dir
	}
	return t
}

// Ignoring returns the tree without what rules ignore. Single files that are a
// place are part of it all the same.
func (t Tree) Ignoring(rules *ignore.Rules) Tree {
	t.rules = rules
	return t
}

// Rules returns what Ignoring was given.
func (t Tree) Rules() *ignore.Rules { return t.rules }

// Places returns what the tree is made of.
func (t Tree) Places() []Place { return t.places }

// Named says that every place has a name.
func (t Tree) Named() bool { return t.one == "" }

// String returns the directory of a tree of one, and the paths of the places of
// others, for people and as the tree's name.
func (t Tree) String() string {
	if t.one != "" {
		return t.one
	}
	var paths []string
	for _, p := range t.places {
		paths = append(paths, p.path())
	}
	return strings.Join(paths, ", ")
}

// path returns where the place's name is on disk.
func (p Place) path() string {
	if p.Only {
		return filepath.Join(p.Dir, p.At)
	}
	return p.Dir
}

// Disk returns where p is on disk. A path of no place is nowhere: "".
func (t Tree) Disk(p Path) string {
	if t.one != "" {
		return filepath.Join(t.one, filepath.FromSlash(string(p)))
	}
	i, below := t.Find(p)
	if i < 0 {
		return ""
	}
	return filepath.Join(t.places[i].Dir, filepath.FromSlash(string(below)))
}

// reserves reports whether name in dir is skyagent's own: in the directory of a
// place it is, as it is at the top of a tree of one.
func (t Tree) reserves(dir Path, name string) bool {
	if name != Reserved || t.one != "" {
		return false // Classify knows the top
	}
	for _, p := range t.places {
		if !p.Only && Path(p.At) == dir {
			return true
		}
	}
	return false
}

// Find returns the place that p is in, as an index of Places, and where p is
// below its directory. A path of no place is in -1.
func (t Tree) Find(p Path) (int, Path) {
	if t.one != "" {
		return 0, p
	}
	top, rest, _ := strings.Cut(string(p), "/")
	for i, place := range t.places {
		switch {
		case place.At != top:
		case place.Only:
			return i, p
		default:
			return i, Path(rest)
		}
	}
	return -1, ""
}
