package syncer

import (
	"context"
	"errors"
	"io/fs"
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
	if b.Rescan != "" {
		s.startScan(ctx, b.Rescan)
	}
	if !s.checkRoot() {
		return // the paths of a lost root are no deletions; its return asks for a rescan
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
	if err := s.openRoot(); err != nil {
		s.lose(err.Error())
		return
	}
	s.scanning = true
	s.log.Debug("scanning", "reason", reason)
	s.mu.Lock()
	index := s.index.Snapshot()
	s.mu.Unlock()
	s.side.Go(func() {
		scan, err := manifest.ScanTree(ctx, s.opt.Root, index)
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
	for _, skip := range r.scan.Skipped {
		s.skipped[skip.Name] = skip
	}
	v := s.view()
	v.walked = true
	for _, d := range r.scan.Changed {
		v.look(d.Path)
	}
	v.walked = false // these were not met by the walk
	for _, p := range r.scan.Gone {
		v.look(p)
	}
	s.scannedN++
}

// A view looks at paths of the source; it remembers which directories are
// real while it lives, which is for one batch.
type view struct {
	s      *Source
	walked bool // the paths come from a walk: no symlink stands above them
	dirs   map[manifest.Path]bool
}

func (s *Source) view() view { return view{s: s, dirs: make(map[manifest.Path]bool)} }

// look compares what is at p now with what is committed, and starts what must
// be done about it.
func (v *view) look(p manifest.Path) {
	s := v.s
	if _, ok := s.busy[p]; ok {
		s.again[p] = struct{}{}
		return
	}
	s.retries.drop(p)
	if !v.real(p.Dir()) {
		s.gone(p)
		return
	}
	fi, err := os.Lstat(s.disk(p))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		s.unskip(p)
		s.gone(p)
		return
	}
	if err != nil {
		s.skip(manifest.Skipped{Name: string(p), Why: manifest.SkipUnreadable, Err: err})
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
	v.present(p, manifest.StatOf(fi))
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
}

// real reports whether dir and all above it are directories and no symlinks:
// what lies behind a symlink is not part of the source.
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
		ok = err == nil && fi.IsDir()
	}
	v.dirs[dir] = ok
	return ok
}

// present deals with a file or directory that is there.
func (v *view) present(p manifest.Path, stat manifest.Stat) {
	s := v.s
	old, known := s.index.Files().Get(p)
	if stat.Mode.IsDir() {
		if mode := manifest.DirMode(stat.Mode); !known || old.Mode != mode {
			s.busy[p] = sending
			s.finishPut(outcome{path: p, entry: manifest.Entry{File: manifest.File{Path: p, Mode: mode}}, began: time.Now()})
		}
		return
	}
	if known && s.index.Stat(p).Unchanged(stat) && old.Mode == stat.Mode.Perm() {
		return
	}
	if v.blocked(p, known && old.IsDir()) {
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

// blocked reports whether the object of p cannot be written yet, since some
// stores are directories: a file stood where p needs a directory, or p was a
// directory and what it held is still there.
func (v *view) blocked(p manifest.Path, wasDir bool) bool {
	s := v.s
	for dir := p.Dir(); dir != ""; dir = dir.Dir() {
		if f, ok := s.index.Files().Get(dir); ok && !f.IsDir() {
			v.look(dir)
			return true
		}
		if s.busy[dir] == removing {
			return true
		}
	}
	if !wasDir {
		return false
	}
	empty := true
	for f := range s.index.Files().Below(p) {
		s.hold(f.Path)
		empty = false
	}
	for q := range s.busy {
		empty = empty && !q.Within(p)
	}
	return !empty
}

// gone deals with a path at which nothing is left to sync: with all that is
// committed there and below.
func (s *Source) gone(p manifest.Path) {
	if s.opt.KeepDeleted {
		return
	}
	if _, ok := s.index.Files().Get(p); ok {
		s.hold(p)
	}
	for f := range s.index.Files().Below(p) {
		s.hold(f.Path)
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
