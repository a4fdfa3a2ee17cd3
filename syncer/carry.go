package syncer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/skyagent/skyagent/manifest"
)

func sortPaths(paths []manifest.Path, cmp func(a, b manifest.Path) int) { slices.SortFunc(paths, cmp) }

func sortFiles(files []manifest.File) {
	slices.SortFunc(files, func(a, b manifest.File) int { return strings.Compare(string(a.Path), string(b.Path)) })
}

// A result is what became of a plan.
type result struct {
	mu     sync.Mutex // guards all below while files are placed in parallel
	placed []manifest.Entry
	gone   []manifest.Path
	failed map[manifest.Path]error
	dirs   map[manifest.Path]bool // made in this step: nothing is in them that it did not put there

	fetchedFiles, fetchedBytes, inlineFiles, reusedBytes, deleted, conflicts int64
}

func (d *result) fail(p manifest.Path, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[p] = err
}

func (d *result) made(dir manifest.Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs[dir] = true
}

func (d *result) wasMade(dir manifest.Path) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dirs[dir]
}

func (d *result) place(e manifest.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.placed = append(d.placed, e)
}

func (d *result) kept() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conflicts++
}

// carryOut makes the changes of a plan. A failure is noted under its path and
// does not stop the rest.
func (r *Replica) carryOut(ctx context.Context, p *plan) *result {
	d := &result{failed: make(map[manifest.Path]error), dirs: make(map[manifest.Path]bool)}
	clear(r.moving)
	staged := r.stage(ctx, p, d)
	for _, path := range p.early {
		r.remove(path, d)
	}
	for _, dir := range p.dirs {
		r.makeDir(dir, d)
	}
	r.placeFiles(ctx, p.files, staged, d)
	for _, path := range p.late {
		r.remove(path, d)
	}
	r.tidy(p, d)
	// Modes last and children first: a directory may forbid writing.
	for _, dir := range slices.Backward(p.dirs) {
		r.setMode(dir, d)
	}
	return d
}

// A stagedFile is a verified temporary file and what it becomes.
type stagedFile struct {
	change manifest.Change
	temp   temp
}

// stage takes what is about to go and is needed under another name.
func (r *Replica) stage(ctx context.Context, p *plan, d *result) []stagedFile {
	var staged []stagedFile
	for _, u := range p.reuse {
		if err := ctx.Err(); err != nil {
			d.fail(u.change.Path, err)
			continue
		}
		t := r.shelves[len(staged)%len(r.shelves)].next()
		if err := r.takeLocal(u, t); err != nil {
			p.files = append(p.files, u.change)
			continue
		}
		d.reusedBytes += u.change.Size
		staged = append(staged, stagedFile{u.change, t})
	}
	return staged
}

// placeFiles fetches and places files in parallel, those of a directory one
// after the other as far as they are small.
func (r *Replica) placeFiles(ctx context.Context, files []manifest.Change, staged []stagedFile, d *result) {
	for _, s := range staged {
		in := folder{replica: r, path: s.change.Path.Dir()}
		r.announce(s.change.File)
		r.settle(s.change.File, s.temp, &in, d)
		in.close()
	}
	for _, c := range files {
		r.progress.found(c.Size)
	}
	runs := inRuns(files)
	// As many goroutines as transfers, not as files: their stacks, grown by the
	// stores' clients, serve again.
	var next atomic.Int64
	var group sync.WaitGroup
	for i := range min(r.opt.Workers, len(runs)) {
		p := &placer{Replica: r, shelf: r.shelves[i%len(r.shelves)], done: d}
		group.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(runs); n = int(next.Add(1)) - 1 {
				p.run(ctx, runs[n])
			}
		})
	}
	group.Wait()
}

const (
	runFiles = 16      // at most, so that a large directory occupies all workers
	runBytes = 1 << 20 // and no more than one file goes beyond
)

// inRuns cuts files into stretches of one directory.
func inRuns(files []manifest.Change) [][]manifest.Change {
	var runs [][]manifest.Change
	var bytes int64
	from := 0
	for i, c := range files {
		if i > from && (c.Path.Dir() != files[from].Path.Dir() || i-from == runFiles || bytes+c.Size > runBytes) {
			runs = append(runs, files[from:i])
			from, bytes = i, 0
		}
		bytes += c.Size
	}
	if from < len(files) {
		runs = append(runs, files[from:])
	}
	return runs
}

// run places files of one directory.
func (p *placer) run(ctx context.Context, changes []manifest.Change) {
	in := folder{replica: p.Replica, path: changes[0].Path.Dir()}
	defer in.close()
	files := make([]manifest.File, len(changes))
	for i, c := range changes {
		files[i] = c.File
	}
	p.announce(files...)
	for _, c := range changes {
		p.place(ctx, c, &in)
		p.progress.finished(c.Size)
	}
}

// place makes one file hold what the manifest says.
func (p *placer) place(ctx context.Context, c manifest.Change, in *folder) {
	if err := ctx.Err(); err != nil {
		p.done.fail(c.Path, err)
		return
	}
	if p.quick(ctx, c, in) || p.inPlace(c.File, in, p.done) {
		return
	}
	t := p.shelf.next()
	if err := p.fetch(ctx, c, t, p.done); err != nil {
		p.done.fail(c.Path, err)
		return
	}
	p.settle(c.File, t, in, p.done)
}

// remove deletes what this replica put at p. A local edit is kept beside, a
// directory that holds files of others stays.
func (r *Replica) remove(p manifest.Path, d *result) {
	f, ok := r.index.Files().Get(p)
	if !ok {
		return
	}
	err := r.removeEntry(f, d)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.fail(p, fmt.Errorf("delete %s: %w", p, err))
		return
	}
	if !f.IsDir() {
		d.deleted++
	}
	d.gone = append(d.gone, p)
}

// real reports whether dir and all above it are directories: behind a symlink
// or a file of others is nothing of ours.
func (r *Replica) real(dir manifest.Path) bool {
	for ; dir != ""; dir = dir.Dir() {
		// What leads out of the root is an error here, and its parent tells why.
		if fi, err := r.root.Lstat(disk(dir)); err == nil && !fi.IsDir() {
			return false
		}
	}
	return true
}

// tidy removes directories that nothing is left in and that the manifest does
// not name: they were made for a file that came before its directory, or could
// not go before it.
func (r *Replica) tidy(p *plan, d *result) {
	if len(d.gone) == 0 {
		return
	}
	stays := make(map[manifest.Path]bool, len(d.gone)+len(p.dirs)) // where the plan says so
	for _, path := range d.gone {
		stays[path] = false
	}
	for _, f := range p.dirs {
		stays[f.Path] = true
	}
	named := func(dir manifest.Path) bool {
		if stay, ok := stays[dir]; ok {
			return stay
		}
		_, ok := r.index.Files().Get(dir)
		return ok
	}
	for _, path := range d.gone {
		for dir := path.Dir(); dir != "" && !named(dir); dir = dir.Dir() {
			fi, err := r.root.Lstat(disk(dir))
			if err == nil && (!fi.IsDir() || r.root.Remove(disk(dir)) != nil) {
				break
			}
		}
	}
}

func (r *Replica) removeEntry(f manifest.File, d *result) error {
	name := disk(f.Path)
	fi, err := r.root.Lstat(name)
	if err != nil && !r.real(f.Path.Dir()) {
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	if f.IsDir() {
		if !fi.IsDir() {
			return nil // somebody else's by now
		}
		if err := r.within(f.Path, func() error { return r.root.Remove(name) }); err != nil && !notEmpty(err) {
			return err
		}
		return nil
	}
	if !r.ours(f.Path, fi) {
		return r.keepAside(f.Path, d)
	}
	return r.within(f.Path, func() error { return r.root.Remove(name) })
}
