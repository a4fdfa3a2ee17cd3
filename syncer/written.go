package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// Written is where a replica hears of writes through mounts.
type Written interface {
	// NextWrites blocks until a mount may have written something. Writes
	// without changes say only that: look at the notes.
	NextWrites(ctx context.Context) (manifest.Writes, error)
}

// OpenNotes returns the notes of mounts' writes in store.
func OpenNotes(store objstore.Store) *manifest.Notes { return manifest.NewNotes(logBucket{store}) }

// A written is what a replica knows of writes beside its source's log: what
// mounts wrote, and in a bucket without a log all objects. Each is a claim
// until the bucket was asked: its object is at the claim's revision, or the
// claim is void. Only what is beside the log is kept here, by its name on disk
// and a rename: it is small, and lost it is read again.
type written struct {
	file  string
	notes *manifest.Notes

	claims map[manifest.Path]manifest.Write // not in place yet; the newest of every path
	read   manifest.NotesPos                // how far the notes were read; some of them are claims
	listed map[manifest.Path]objstore.Info  // of the running step, where the bucket was listed
	plain  bool                             // there is no log: the listing is the truth
	dirty  bool                             // the rest is not as the file has it

	Pos   manifest.NotesPos               `json:"pos"`   // no claim is from before
	Files map[manifest.Path]manifest.File `json:"files"` // in place, and beside the log

	// Gone are paths that were deleted beside the log, which may name them still:
	// whoever reads it anew must not wait for their objects.
	Gone map[manifest.Path]bool `json:"gone,omitempty"`
}

// openWritten reads what an earlier run kept in file. What is damaged is made
// anew from the notes.
func openWritten(file string, store objstore.Store) *written {
	w := &written{file: file, notes: OpenNotes(store), claims: make(map[manifest.Path]manifest.Write)}
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, w) != nil {
		w.Pos, w.Files, w.Gone = manifest.NotesPos{}, nil, nil
	}
	if w.Files == nil {
		w.Files = make(map[manifest.Path]manifest.File)
	}
	if w.Gone == nil {
		w.Gone = make(map[manifest.Path]bool)
	}
	w.read = w.Pos
	return w
}

// save keeps the state. The position moves only when no claim is open, so that
// a restart reads open ones again.
func (w *written) save() error {
	if len(w.claims) == 0 && w.read.Newest != w.Pos.Newest {
		w.Pos, w.dirty = w.read, true
	}
	if !w.dirty {
		return nil
	}
	b, err := json.Marshal(w)
	if err == nil {
		err = os.WriteFile(w.file+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(w.file+".new", w.file)
	}
	if err != nil {
		return fmt.Errorf("save what mounts wrote: %w", err)
	}
	w.dirty = false
	return nil
}

// claim takes changes as claims, each in place of an older one.
func (w *written) claim(changes []manifest.Write) {
	for _, c := range changes {
		if old, ok := w.claims[c.Path]; ok && c.Rev != "" && old.Prev == c.Rev {
			continue // that one replaced this one
		}
		w.claims[c.Path] = c
	}
}

// readNotes takes what was noted since the last look.
func (w *written) readNotes(ctx context.Context) error {
	list, pos, err := w.notes.Since(ctx, w.read)
	if err != nil && !errors.Is(err, manifest.ErrCorrupt) {
		return err
	}
	for _, writes := range list {
		w.claim(writes.Changes)
	}
	w.read = pos
	return nil
}

// forget says that p is as the log has it, or open no more.
func (w *written) forget(p manifest.Path) {
	delete(w.claims, p)
	_, ok := w.Files[p]
	if ok || w.Gone[p] {
		delete(w.Files, p)
		delete(w.Gone, p)
		w.dirty = true
	}
}

// bury says that p is deleted beside the log.
func (w *written) bury(p manifest.Path) {
	w.forget(p)
	if !w.plain {
		w.Gone[p], w.dirty = true, true
	}
}

// follow takes over what the log, whole in m, says: it names files that were
// beside it, and names no longer what was deleted beside it.
func (w *written) follow(m *manifest.Manifest) {
	for p, kept := range w.Files {
		if f, named := m.Get(p); named && f.Rev == kept.Rev {
			w.adopt(p)
		}
	}
	for p := range w.Gone {
		if _, named := m.Get(p); !named {
			delete(w.Gone, p)
			w.dirty = true
		}
	}
}

// adopt says that the file in place at p is the log's from now on.
func (w *written) adopt(p manifest.Path) {
	if _, ok := w.Files[p]; ok {
		delete(w.Files, p)
		w.dirty = true
	}
}

// has reports whether f is what is beside the log at its path.
func (w *written) has(f manifest.File) bool {
	old, ok := w.Files[f.Path]
	return ok && old.Rev == f.Rev && old.Hash == f.Hash
}

// keep says that f is in place, and beside the log.
func (w *written) keep(f manifest.File) {
	delete(w.claims, f.Path)
	if w.Gone[f.Path] {
		delete(w.Gone, f.Path)
		w.dirty = true
	}
	if old, ok := w.Files[f.Path]; !ok || old.Rev != f.Rev || old.Mode != f.Mode {
		w.Files[f.Path] = f
		w.dirty = true
	}
}

// list makes claims of a bucket without a log: of its objects that are not in
// place, and of files in place whose object is gone. manifest.ErrNoLog says
// that there is nothing in it, which empties no replica.
func (r *Replica) list(ctx context.Context) error {
	w := r.written
	w.listed = make(map[manifest.Path]objstore.Info)
	for info, err := range r.opt.Store.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("list bucket: %w", err)
		}
		p, err := manifest.ParsePath(info.Key)
		if err != nil {
			continue // skyagent's own, or a name that no directory can have
		}
		w.listed[p] = info
	}
	if len(w.listed) == 0 && len(w.claims) == 0 && len(w.Files) == 0 {
		return manifest.ErrNoLog
	}
	if len(w.listed) == 0 && r.index.Files().Count() > 1 {
		return errors.New("the bucket shows no object any more; nothing is deleted")
	}
	w.plain = true
	for p, info := range w.listed {
		r.claimListed(p, info)
	}
	for f := range r.index.Files().All() {
		_, there := w.listed[f.Path]
		_, open := w.claims[f.Path]
		if !there && !open && !f.IsDir() {
			w.claim([]manifest.Write{{Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: f.Path}}, Prev: f.Rev}})
		}
	}
	return nil
}

func (r *Replica) claimListed(p manifest.Path, info objstore.Info) {
	rev := string(info.Rev)
	if f, ok := r.index.Files().Get(p); ok && f.Rev == rev {
		if _, open := r.written.claims[p]; !open {
			r.written.keep(f)
		}
		return
	}
	if open, ok := r.written.claims[p]; !ok || open.Rev != rev {
		r.written.claim([]manifest.Write{{Change: manifest.Change{Op: manifest.Put, File: manifest.File{Path: p, Rev: rev}}}})
	}
}

// A ruling is what the bucket says about one path.
type ruling struct {
	change manifest.Change
	act    bool // change is to be made
	beside bool // it is not the log's
	err    error
}

// rule joins the log's changes with the claims: wherever both, or a file beside
// the log, speak of a path, the bucket is asked. It returns the changes to be
// made, and remembers in r.beside which of them are not the log's.
func (r *Replica) rule(ctx context.Context, log []manifest.Change) ([]manifest.Change, error) {
	w := r.written
	r.beside = make(map[manifest.Path]bool)
	byLog := make(map[manifest.Path]*manifest.Change)
	ask := slices.Collect(maps.Keys(w.claims))
	var changes []manifest.Change
	for i, c := range log {
		_, claimed := w.claims[c.Path]
		_, kept := w.Files[c.Path]
		switch {
		case claimed:
			byLog[c.Path] = &log[i]
		case kept, w.Gone[c.Path], r.opt.Mounts && moved(r.failed[c.Path]):
			byLog[c.Path] = &log[i]
			ask = append(ask, c.Path)
		default:
			changes = append(changes, c)
		}
	}
	slices.Sort(ask)
	r.unruled = make(map[manifest.Path]error)
	var err error
	for i, v := range r.rulings(ctx, ask, byLog) {
		switch p := ask[i]; {
		case v.err != nil:
			err, r.unruled[p] = v.err, v.err
		case v.act:
			changes = append(changes, v.change)
			r.beside[p] = v.beside
			if !v.beside && v.change.Op == manifest.Put {
				w.adopt(p)
			}
		default:
			delete(w.claims, p)
		}
	}
	if len(changes) == 0 {
		return nil, err
	}
	return changes, ctx.Err()
}

func (r *Replica) rulings(ctx context.Context, ask []manifest.Path, byLog map[manifest.Path]*manifest.Change) []ruling {
	out := make([]ruling, len(ask))
	var group errgroup.Group
	group.SetLimit(min(removeLooks, r.opt.Workers))
	for i, p := range ask {
		group.Go(func() error {
			out[i] = r.ruleOn(ctx, p, byLog[p])
			return nil
		})
	}
	group.Wait()
	return out
}

// ruleOn asks the bucket about p, of which log may have news.
func (r *Replica) ruleOn(ctx context.Context, p manifest.Path, log *manifest.Change) ruling {
	claim, claimed := r.written.claims[p]
	kept, isKept := r.written.Files[p]
	if claimed && claim.Op == manifest.Put && claim.IsDir() || isKept && kept.IsDir() {
		return r.ruleOnDir(claim, claimed, log)
	}
	claim.Path = p
	info, err := r.objectOf(ctx, claim)
	switch {
	case errors.Is(err, objstore.ErrNoBucket):
		return ruling{err: err}
	case errors.Is(err, fs.ErrNotExist):
		return r.ruleOnGone(p, claim, log)
	case err != nil:
		return ruling{err: fmt.Errorf("look at %s: %w", p, err)}
	}
	rev := string(info.Rev)
	inPlace, known := r.index.Files().Get(p)
	if fileOf(p, info).IsLink() { // left out; what stood there before it goes
		return ruling{change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: p}}, act: known && !inPlace.IsDir(), beside: true}
	}
	switch {
	case log != nil && log.Op == manifest.Put && log.Rev == rev:
		return ruling{change: *log, act: true}
	case claimed && claim.Op == manifest.Put && claim.Rev == rev && !claim.Hash.IsZero():
		return ruling{change: claim.Change, act: true, beside: true}
	case log != nil && log.Op == manifest.Delete && info.Meta[manifest.MetaSource] != "":
		return ruling{change: *log, act: true} // the source deletes the object after it said so
	case known && inPlace.Rev == rev:
		return ruling{}
	}
	if log != nil && info.Meta[manifest.MetaSource] != "" {
		return ruling{change: *log, act: true} // a source's: its next commit says more
	}
	if info.Meta[manifest.MetaSource] != "" && !r.written.plain {
		return ruling{}
	}
	return r.ruleByObject(ctx, p, info)
}

// objectOf returns the object at a claim's path: from the listing where that
// says all there is to know, else by asking.
func (r *Replica) objectOf(ctx context.Context, claim manifest.Write) (objstore.Info, error) {
	if info, ok := r.written.listed[claim.Path]; ok && string(info.Rev) == claim.Rev && !claim.Hash.IsZero() {
		return info, nil
	}
	return r.opt.Store.Head(ctx, string(claim.Path))
}

// ruleOnDir decides on a directory, of which the bucket has no object.
func (r *Replica) ruleOnDir(claim manifest.Write, claimed bool, log *manifest.Change) ruling {
	switch {
	case log != nil && log.Op == manifest.Put:
		return ruling{change: *log, act: true}
	case claimed:
		return ruling{change: claim.Change, act: true, beside: true}
	}
	return ruling{} // the log never had it
}

// ruleOnGone decides on a path without an object: what is beside the log goes,
// and what a mount deleted, whichever revision is in place. A file that only the
// log names is missed, and no mount's doing. A directory has no object anyway.
func (r *Replica) ruleOnGone(p manifest.Path, claim manifest.Write, log *manifest.Change) ruling {
	f, known := r.index.Files().Get(p)
	_, kept := r.written.Files[p]
	removed := claim.Op == manifest.Delete || r.written.Gone[p]
	switch {
	case log != nil && (log.Op == manifest.Delete || log.IsDir() || !removed):
		return ruling{change: *log, act: true}
	case !kept && !removed, known && f.IsDir() && claim.Prev != "":
		return ruling{}
	}
	gone := manifest.Change{Op: manifest.Delete, File: manifest.File{Path: p}}
	return ruling{change: gone, act: true, beside: true}
}

// writtenBox hands over writes one after the other.
func writtenBox(ctx context.Context, from Written) (<-chan manifest.Writes, func()) {
	box := make(chan manifest.Writes)
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		for from != nil {
			w, err := from.NextWrites(ctx)
			if err != nil {
				return
			}
			select {
			case box <- w:
			case <-ctx.Done():
				return
			}
		}
	})
	return box, func() { cancel(); group.Wait() }
}

// hearWrites takes what a mount announced.
func (r *Replica) hearWrites(ctx context.Context, w manifest.Writes) error {
	if len(w.Changes) == 0 {
		return r.advance(ctx)
	}
	r.written.claim(w.Changes)
	r.written.listed = nil
	changes, err := r.rule(ctx, nil)
	if err != nil || len(changes) == 0 {
		return err
	}
	return r.apply(ctx, changes, r.index.Position(), w.Time)
}

// took notes which of changes are in place.
func (r *Replica) took(changes []manifest.Change, failed map[manifest.Path]error) {
	for _, c := range changes {
		switch {
		case failed[c.Path] != nil:
		case c.Op == manifest.Put && (r.beside[c.Path] || r.written.has(c.File)):
			r.written.keep(c.File)
		case c.Op == manifest.Delete && r.beside[c.Path]:
			r.written.bury(c.Path)
		default:
			r.written.forget(c.Path)
		}
	}
	r.saveWritten()
}

func (r *Replica) saveWritten() {
	if err := r.written.save(); err != nil {
		r.log.Warn("a restart has more to read", "err", err)
	}
}
