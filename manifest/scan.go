package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"github.com/skyagent/skyagent/ignore"
)

// A Skip says why an entry of a source is not synced.
type Skip string

// The reasons for a Skip.
const (
	SkipSymlink    Skip = "symlink"    // never followed, never copied
	SkipSpecial    Skip = "special"    // FIFO, socket or device
	SkipName       Skip = "name"       // not valid UTF-8, or otherwise no Path
	SkipReserved   Skip = "reserved"   // the top-level name .skyagent
	SkipUnreadable Skip = "unreadable" // no permission, or an error of the disk
)

// Odd reports whether the skip leaves something out that its owner expects to
// find on a worker. Symlinks are left out by definition.
func (s Skip) Odd() bool { return s != SkipSymlink && s != SkipReserved }

// A Skipped is one entry that is not synced.
type Skipped struct {
	Name string // below the root, as the file system has it
	Why  Skip
	Err  error // for SkipUnreadable
}

// A Difference is a path at which a tree no longer looks as an index has it.
type Difference struct {
	Path Path
	Stat Stat // zero when nothing is there any more
}

// A Scan is what one walk of a tree found.
type Scan struct {
	Changed []Difference // new, or not provably unchanged; directories before what they hold
	Gone    []Path       // in the index, not in the tree; deepest last
	Skipped []Skipped
	Ignored int // entries that rules leave out; a directory is one
	Seen    int // regular files and directories in the tree
}

// ScanTree walks the tree at root and compares every entry with the index by
// its Stat; no file is opened. What cannot be looked at, as all below a
// directory that cannot be read, is neither Changed nor Gone. The error is that
// of the root, or of ctx.
func ScanTree(ctx context.Context, root string, x *Index) (*Scan, error) {
	return OneDir(root).Scan(ctx, x)
}

// Scan is ScanTree for any tree. The error may be that of any of its
// directories: that one which is not there has been emptied is not to be thought.
func (t Tree) Scan(ctx context.Context, x *Index) (*Scan, error) {
	w := &walk{tree: t, index: x}
	w.more.L = &w.mu
	if err := w.first(); err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() { w.work(ctx) })
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.result.Gone = w.gone()
	return &w.result, nil
}

// A walk is one running scan: a stack of directories that workers share.
type walk struct {
	tree  Tree
	index *Index

	mu     sync.Mutex // guards all that follows
	more   sync.Cond  // dirs grew, or busy fell to 0
	dirs   []todo
	busy   int // workers that are reading a directory
	result Scan
	known  []Path // entries of the index that were seen
	unread []Path // could not be read: what is there is not known
}

// A todo is a directory that was met.
type todo struct {
	path  Path
	above ignore.Dir // judges the entries of the directory that it is in
}

// first reads the root; only its error ends the scan. Where there are several,
// it looks at each.
func (w *walk) first() (err error) {
	var found visit
	if w.tree.one != "" {
		found, err = w.read(todo{})
	} else {
		found, err = w.places()
	}
	if err != nil {
		return err
	}
	w.add(found)
	return nil
}

// places looks at every name at the top of a tree of several.
func (w *walk) places() (visit, error) {
	var v visit
	for _, place := range w.tree.places {
		if _, err := os.Stat(place.Dir); err != nil {
			return v, err
		}
		fi, err := os.Lstat(place.path())
		if errors.Is(err, fs.ErrNotExist) {
			continue // a single file that is gone
		}
		if err != nil {
			return v, err
		}
		p, why := Classify("", place.At, fi.Mode())
		if why != "" {
			v.skipped = append(v.skipped, Skipped{Name: place.At, Why: why})
			continue
		}
		w.meet(&v, p, StatOf(fi), ignore.Dir{})
	}
	return v, nil
}

func (w *walk) work(ctx context.Context) {
	for {
		dir, ok := w.take()
		if !ok {
			return
		}
		found, err := visit{}, ctx.Err()
		if err == nil {
			found, err = w.read(dir)
		}
		w.done(dir.path, found, err)
	}
}

// take returns the next directory, and false when there will be none.
func (w *walk) take() (todo, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.dirs) == 0 && w.busy > 0 {
		w.more.Wait()
	}
	if len(w.dirs) == 0 {
		return todo{}, false
	}
	dir := w.dirs[len(w.dirs)-1]
	w.dirs = w.dirs[:len(w.dirs)-1]
	w.busy++
	return dir, true
}

func (w *walk) done(dir Path, found visit, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.unread = append(w.unread, dir)
		w.result.Skipped = append(w.result.Skipped, Skipped{string(dir), SkipUnreadable, unwrapPath(err)})
	}
	w.addLocked(found)
	w.more.Broadcast()
}

func (w *walk) add(found visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addLocked(found)
}

func (w *walk) addLocked(v visit) {
	w.dirs = append(w.dirs, v.dirs...)
	w.known = append(w.known, v.known...)
	w.unread = append(w.unread, v.unread...)
	w.result.Changed = append(w.result.Changed, v.changed...)
	w.result.Skipped = append(w.result.Skipped, v.skipped...)
	w.result.Ignored += v.ignored
	w.result.Seen += v.seen
}

// A visit is what one directory holds.
type visit struct {
	dirs    []todo
	known   []Path
	unread  []Path
	changed []Difference
	skipped []Skipped
	ignored int
	seen    int
}

// read lists a directory and looks at each of its entries once.
func (w *walk) read(dir todo) (visit, error) {
	var v visit
	d, err := os.Open(w.tree.Disk(dir.path))
	if err != nil {
		return v, err
	}
	defer d.Close()
	rules := w.tree.rulesOf(dir.above, dir.path)
	names, err := d.ReadDir(-1)
	for _, entry := range names {
		if rules.Match(entry.Name(), entry.IsDir()) != nil {
			v.ignored++
			continue
		}
		w.look(&v, dir.path, d, entry, rules)
	}
	return v, err
}

func (w *walk) look(v *visit, dir Path, d *os.File, entry fs.DirEntry, rules ignore.Dir) {
	p, why := Classify(dir, entry.Name(), entry.Type())
	if w.tree.reserves(dir, entry.Name()) {
		why = SkipReserved
	}
	if why != "" {
		v.skipped = append(v.skipped, Skipped{Name: string(dir.Join(entry.Name())), Why: why})
		return
	}
	stat, err := statAt(d, entry)
	if errors.Is(err, fs.ErrNotExist) {
		return // went since the directory was read
	}
	if err != nil {
		v.unread = append(v.unread, p)
		v.skipped = append(v.skipped, Skipped{string(p), SkipUnreadable, unwrapPath(err)})
		return
	}
	w.meet(v, p, stat, rules)
}

// meet compares what is at p with the index. above judges the entries of the
// directory that p is in.
func (w *walk) meet(v *visit, p Path, stat Stat, above ignore.Dir) {
	v.seen++
	if stat.Mode.IsDir() {
		v.dirs = append(v.dirs, todo{p, above})
	}
	old, ok := w.index.files.files.Get(p)
	if ok {
		v.known = append(v.known, old.Path)
		p = old.Path // one string for both
	}
	if !ok || !old.unchanged(stat) {
		v.changed = append(v.changed, Difference{p, stat})
	}
}

// unchanged reports whether what stat shows needs no second look.
func (r record) unchanged(stat Stat) bool {
	if r.IsDir() || stat.Mode.IsDir() {
		return r.Mode == DirMode(stat.Mode)
	}
	return r.stat.Unchanged(stat) && r.Mode == stat.Mode.Perm()
}

// DirMode returns the mode that a manifest has for a directory that the file
// system shows with mode m.
func DirMode(m fs.FileMode) fs.FileMode { return m & (fs.ModeDir | fs.ModePerm) }

// Classify returns the path of the entry name of directory dir, or why an
// entry of that name and type is skipped.
func Classify(dir Path, name string, typ fs.FileMode) (Path, Skip) {
	p := dir.Join(name)
	switch {
	case p == Reserved:
		return "", SkipReserved
	case typ&fs.ModeSymlink != 0:
		return "", SkipSymlink
	case !typ.IsDir() && !typ.IsRegular():
		return "", SkipSpecial
	}
	if p, err := ParsePath(string(p)); err == nil {
		return p, ""
	}
	return "", SkipName
}

// gone returns what the index has and the walk did not see, without
// what could not be looked at.
func (w *walk) gone() []Path {
	if len(w.known) == w.index.files.Len() {
		return nil
	}
	seen := make(map[Path]struct{}, len(w.known))
	for _, p := range w.known {
		seen[p] = struct{}{}
	}
	var gone []Path
	for f := range w.index.files.All() {
		if _, ok := seen[f.Path]; !ok && !w.hidden(f.Path) {
			gone = append(gone, f.Path)
		}
	}
	return gone
}

func (w *walk) hidden(p Path) bool {
	for _, dir := range w.unread {
		if p == dir || p.Within(dir) {
			return true
		}
	}
	return false
}

// unwrapPath drops the path from an error that will be shown beside it.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}
