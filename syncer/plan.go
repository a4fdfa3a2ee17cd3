package syncer

import (
	"strings"

	"github.com/skyagent/skyagent/manifest"
)

// A plan is the order in which changes are made to a directory, so that every
// name holds a whole file, old or new, for as much of the time as can be.
type plan struct {
	early []manifest.Path   // deletions that make room: a file where a directory comes, and the reverse
	dirs  []manifest.File   // directories to make, or to give another mode; parents first
	reuse []reuse           // files whose bytes another file of the replica has, which will go or change
	files []manifest.Change // files to place
	late  []manifest.Path   // all other deletions; children first
}

// A reuse takes a file's content from another file of the replica.
type reuse struct {
	change manifest.Change
	from   manifest.File
	alone  bool // nobody else takes it: the file itself may move, since its old name goes
}

// plan orders changes, which have each path once.
func (r *Replica) plan(changes []manifest.Change) *plan {
	var (
		p       plan
		leaving = make(map[manifest.Path]bool) // deleted or overwritten; false once taken
		files   = make(map[manifest.Path]bool) // will be a file
		parents = make(map[manifest.Path]bool) // will hold something
	)
	for _, c := range changes {
		if old, ok := r.index.Files().Get(c.Path); ok && (c.Op == manifest.Delete || !c.SameContent(old)) {
			leaving[c.Path] = true
		}
		if c.Op == manifest.Put {
			files[c.Path] = !c.IsDir()
			parents[c.Path] = parents[c.Path] || c.IsDir()
			parents[c.Path.Dir()] = true
		}
	}
	for _, c := range changes {
		switch {
		case c.Op == manifest.Delete && r.inTheWay(c.Path, files, parents):
			p.early = append(p.early, c.Path)
		case c.Op == manifest.Delete:
			p.late = append(p.late, c.Path)
		case c.IsDir():
			p.dirs = append(p.dirs, c.File)
		default:
			p.addFile(r, c, leaving)
		}
	}
	p.sort()
	return &p
}

// inTheWay reports whether p must be deleted before anything is placed.
func (r *Replica) inTheWay(p manifest.Path, files, parents map[manifest.Path]bool) bool {
	if parents[p] {
		return true
	}
	for dir := p.Dir(); dir != ""; dir = dir.Dir() {
		if files[dir] {
			return true
		}
	}
	return false
}

func (p *plan) addFile(r *Replica, c manifest.Change, leaving map[manifest.Path]bool) {
	twin, ok := r.index.Files().Find(c.Hash)
	alone, goes := leaving[twin.Path]
	if ok && c.Size > 0 && c.Data == nil && twin.Path != c.Path && goes {
		p.reuse = append(p.reuse, reuse{c, twin, alone})
		leaving[twin.Path] = false
		return
	}
	p.files = append(p.files, c)
}

func (p *plan) sort() {
	sortPaths(p.early, deepestFirst)
	sortPaths(p.late, deepestFirst)
	sortFiles(p.dirs)
}

func deepestFirst(a, b manifest.Path) int { return strings.Compare(string(b), string(a)) }
