package syncer

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A scanned is the end of a scan that ran beside the loop.
type scanned struct {
	scan *manifest.Scan
	err  error
}

// take looks at what a batch names.
func (s *Source) take(ctx context.Context, b manifest.Batch) {
	s.heard = time.Now()
	if b.Rescan != "" {
		s.startScan(ctx, b.Rescan)
	}
	lost := s.lost != ""
	if !s.checkRoot() {
		return // the paths of a lost root are no deletions; its return asks for a rescan
	}
	if lost {
		s.startScan(ctx, "root") // it may be another directory by now
		return
	}
	v := s.view()
	for _, p := range b.Paths {
		v.look(p)
	}
}

// startScan walks the tree beside the loop, over a snapshot of the index: what
// it finds are places to look at, like a batch's.
func (s *Source) startScan(ctx context.Context, reason string) {
	if s.scanning {
		s.rescan = reason
		return
	}
	if !s.checkRoot() {
		return
	}
	if err := s.openRoots(); err != nil {
		s.lose(err.Error())
		return
	}
	s.scanning = true
	s.log.Debug("scanning", "reason", reason)
	s.mu.Lock()
	index := s.index.Snapshot()
	s.mu.Unlock()
	s.side.Go(func() {
		scan, err := s.tree.Scan(ctx, index)
		s.scans <- scanned{scan, err}
	})
}

// takeScan looks at what a scan found.
func (s *Source) takeScan(ctx context.Context, r scanned) {
	s.scanning = false
	if next := s.rescan; next != "" {
		s.rescan = ""
		defer s.startScan(ctx, next)
	}
	if r.err != nil {
		s.lose(r.err.Error())
		return
	}
	if !s.checkRoot() {
		return
	}
	clear(s.skipped)
	s.skipsNew = true
	v := s.view()
	v.walked = true
	for _, d := range r.scan.Changed {
		v.look(d.Path)
	}
	v.walked = false // these were not met by the walk
	for _, p := range r.scan.Gone {
		v.look(p)
	}
	for _, skip := range r.scan.Skipped { // last: a directory that cannot be read is looked at, too
		s.skipped[skip.Name] = skip
	}
	s.ignored = r.scan.Ignored
	v.overtaken()
	s.scannedN++
	s.entries += int64(r.scan.Seen)
}

// overtaken looks, after a scan, at what the scan did not name and may all the
// same be ignored from now on, or no longer: what is being sent, and what is held.
func (v *view) overtaken() {
	for p, is := range v.s.busy {
		if is == sending && v.judge.Ignores(p, false) != nil {
			v.s.again[p] = struct{}{}
		}
	}
	for p := range maps.Clone(v.s.guard.held) {
		v.look(p)
	}
}

// A view looks at paths of the source; it remembers which directories are
// real while it lives, which is for one batch.
type view struct {
	s      *Source
	walked bool // the paths come from a walk: no symlink stands above them, and none is ignored
	dirs   map[manifest.Path]bool
	judge  *manifest.Judge
}

func (s *Source) view() view {
	return view{s: s, dirs: make(map[manifest.Path]bool), judge: s.tree.Judge()}
}

// look compares what is at p now with what is committed, and starts what must
// be done about it.
func (v *view) look(p manifest.Path) {
	s := v.s
	if _, ok := s.busy[p]; ok {
		s.again[p] = struct{}{}
		return
	}
	s.retries.drop(p)
	real := v.real(p.Dir())
	fi, err := os.Lstat(s.disk(p))
	switch {
	case !real, errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDir):
		s.unskip(p)
		s.gone(p)
		return
	case err != nil:
		s.succeed(p)
		s.skip(manifest.Skipped{Name: string(p), Why: manifest.SkipUnreadable, Err: err})
		return
	}
	if !v.walked && v.judge.Ignores(p, fi.IsDir()) != nil {
		s.unskip(p)
		s.gone(p)
		return
	}
	if _, why := manifest.Classify(p.Dir(), p.Base(), fi.Mode()); why != "" {
		s.skip(manifest.Skipped{Name: string(p), Why: why})
		s.gone(p)
		return
	}
	s.guard.drop(p, time.Now())
	s.unskip(p)
	if fi.IsDir() && !v.walked {
		v.children(p)
	}
	if dir := p.Dir(); dir != "" && !s.known(dir) {
		v.look(dir) // a manifest without it would leave it on workers for ever
	}
	v.present(p, manifest.StatOf(fi))
}

// known reports whether something is committed at p, or about to be.
func (s *Source) known(p manifest.Path) bool {
	if _, ok := s.busy[p]; ok {
		return true
	}
	_, ok := s.index.Files().Get(p)
	return ok
}

// children looks at what is committed directly in directory p and is no longer
// there: when another directory took the name between two events, nobody says
// so of each file. The names that are new come as paths of their own.
func (v *view) children(p manifest.Path) {
	entries, err := os.ReadDir(v.s.disk(p))
	if err != nil {
		return // unreadable: nothing below is known to be gone
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Name()] = true
	}
	for f := range v.s.index.Files().Children(p) {
		if !there[f.Path.Base()] {
			v.look(f.Path)
		}
	}
	for q := range v.s.busy {
		if q.Dir() == p && !there[q.Base()] {
			v.s.again[q] = struct{}{}
		}
	}
}

// real reports whether dir and all above it are directories and no symlinks:
// what lies behind a symlink is not part of the source. One that cannot be
// looked at is taken for real, since what it holds is not gone.
func (v *view) real(dir manifest.Path) bool {
	if dir == "" || v.walked {
		return true
	}
	if known, ok := v.dirs[dir]; ok {
		return known
	}
	ok := v.real(dir.Dir())
	if ok {
		fi, err := os.Lstat(v.s.disk(dir))
		ok = err == nil && fi.IsDir() || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir)
	}
	v.dirs[dir] = ok
	return ok
}

// present deals with a file or directory that is there.
func (v *view) present(p manifest.Path, stat manifest.Stat) {
	s := v.s
	old, known := s.index.Files().Get(p)
	if stat.Mode.IsDir() {
		mode := manifest.DirMode(stat.Mode)
		switch {
		case known && old.Mode == mode:
			s.succeed(p)
		case v.belowFile(p):
			s.retries.soon(p, time.Now())
		default:
			s.busy[p] = sending
			s.finishPut(outcome{path: p, entry: manifest.Entry{File: manifest.File{Path: p, Mode: mode}}, began: time.Now()})
		}
		return
	}
	if known && s.index.Stat(p).Unchanged(stat) && old.Mode == stat.Mode.Perm() {
		s.succeed(p)
		return
	}
	if v.belowFile(p) || s.aboveFiles(p, known && old.IsDir()) {
		s.retries.soon(p, time.Now())
		return
	}
	j := job{path: p, stat: stat, old: old, known: known && !old.IsDir()}
	s.busy[p] = sending
	if !j.large() {
		s.small++
	}
	s.progress.found(stat.Size)
	s.queue.push(j)
}

// belowFile reports whether a file is committed where p needs a directory, or
// its object is still there. Some stores are directories: it must go first.
func (v *view) belowFile(p manifest.Path) bool {
	for dir := p.Dir(); dir != ""; dir = dir.Dir() {
		if f, ok := v.s.index.Files().Get(dir); ok && !f.IsDir() {
			v.look(dir)
			return true
		}
		if v.s.busy[dir] == removing {
			return true
		}
	}
	return false
}

// aboveFiles reports whether something is committed below p, where a file is
// now, or about to be: it must go first. p may have been a directory that was
// not committed itself.
func (s *Source) aboveFiles(p manifest.Path, wasDir bool) bool {
	empty := true
	for f := range s.index.Files().Below(p) {
		s.hold(f.Path)
		empty = false
	}
	if !wasDir && empty {
		return false
	}
	for q := range s.busy {
		empty = empty && !q.Within(p)
	}
	return !empty
}

// gone deals with a path at which nothing is left to sync: with all that is
// committed there and below.
func (s *Source) gone(p manifest.Path) {
	s.succeed(p) // nothing is left to be done for it
	if s.opt.KeepDeleted {
		return
	}
	old, ok := s.index.Files().Get(p)
	if ok {
		s.hold(p)
	}
	if ok && !old.IsDir() {
		return
	}
	for f := range s.index.Files().Below(p) {
		s.hold(f.Path)
	}
	for q := range s.busy { // what will be committed below it in a moment
		if q.Within(p) {
			s.again[q] = struct{}{}
		}
	}
}

func (s *Source) hold(p manifest.Path) { s.guard.hold(p, s.index.Files().Count(), time.Now()) }

func (s *Source) skip(k manifest.Skipped) {
	if old, ok := s.skipped[k.Name]; !ok || old.Why != k.Why {
		s.log.Debug("skipped", "path", k.Name, "why", string(k.Why), "err", k.Err)
	}
	s.skipped[k.Name] = k
	s.skipsNew = true
}

func (s *Source) unskip(p manifest.Path) {
	if _, ok := s.skipped[string(p)]; ok {
		delete(s.skipped, string(p))
		s.skipsNew = true
	}
}
