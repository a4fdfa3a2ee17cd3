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

	fetchedFiles, fetchedBytes, inlineFiles, reusedBytes, deleted, conflicts int64
}

func (d *result) fail(p manifest.Path, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[p] = err
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
	d := &result{failed: make(map[manifest.Path]error)}
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
	temp   string
}

// stage takes what is about to go and is needed under another name.
func (r *Replica) stage(ctx context.Context, p *plan, d *result) []stagedFile {
	var staged []stagedFile
	for _, u := range p.reuse {
		if err := ctx.Err(); err != nil {
			d.fail(u.change.Path, err)
			continue
		}
		temp, err := r.takeLocal(u)
		if err != nil {
			p.files = append(p.files, u.change)
			continue
		}
		d.reusedBytes += u.change.Size
		staged = append(staged, stagedFile{u.change, temp})
	}
	return staged
}

// placeFiles fetches and places files in parallel.
func (r *Replica) placeFiles(ctx context.Context, files []manifest.Change, staged []stagedFile, d *result) {
	if len(files) == 1 && len(staged) == 0 {
		r.placeFile(ctx, files[0], d)
		return
	}
	for _, c := range files {
		r.progress.found(c.Size)
	}
	// As many goroutines as transfers, not as files: their stacks, grown by the
	// stores' clients, serve again.
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(r.opt.Workers, len(staged)+len(files)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(staged)+len(files); i = int(next.Add(1)) - 1 {
				if i < len(staged) {
					r.settle(staged[i].change.File, staged[i].temp, d)
					continue
				}
				c := files[i-len(staged)]
				r.placeFile(ctx, c, d)
				r.progress.finished(c.Size)
			}
		})
	}
	group.Wait()
}

// placeFile makes one file hold what the manifest says.
func (r *Replica) placeFile(ctx context.Context, c manifest.Change, d *result) {
	if err := ctx.Err(); err != nil {
		d.fail(c.Path, err)
		return
	}
	if r.inPlace(c.File, d) {
		return
	}
	temp, err := r.fetch(ctx, c, d)
	if err != nil {
		d.fail(c.Path, err)
		return
	}
	r.settle(c.File, temp, d)
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
