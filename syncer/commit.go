package syncer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

const (
	// commitDelay is how long a finished change waits for others at most.
	commitDelay = 100 * time.Millisecond
	// commitMax bounds the changes of one commit, so that readers get on.
	commitMax = 10_000
)

// commitDue returns when what is finished must be committed. A lone save is
// committed at once; in a burst the first one waits for those that are on
// their way, large ones excepted.
func (s *Source) commitDue(now time.Time) (time.Time, bool) {
	if len(s.done) == 0 && s.unsent == nil {
		return time.Time{}, false
	}
	at := s.since.Add(commitDelay)
	if s.small == 0 || len(s.done) >= commitMax {
		at = now
	}
	if at.Before(s.holdOff) {
		at = s.holdOff
	}
	return at, true
}

// commit writes what is finished as the next generation, announces it, and
// notes it in the index.
func (s *Source) commit(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if s.unsent == nil && s.sortOut(ctx) && len(s.done) == 0 {
		return nil
	}
	c := s.nextCommit()
	pos, err := s.wal.Append(ctx, s.index.Position(), *c)
	if err != nil {
		s.unsent = c
		return err
	}
	pos.Since = s.index.Position().Since + len(c.Changes)
	due := s.checkpointDue(pos)
	if due {
		pos.Since = 0
	}
	s.unsent = nil
	batch := s.done[:len(c.Changes)]
	s.done = slices.Clone(s.done[len(c.Changes):])
	s.since = time.Now()
	s.announce(pos, c, batch)
	replaced := s.replaced(batch)
	s.note(pos, batch)
	s.guard.grown(s.index.Files().Count(), time.Now())
	s.release(ctx, batch, replaced)
	if due {
		s.checkpoint(ctx, pos)
	}
	s.report(pos, c, batch)
	return nil
}

// nextCommit returns the commit to write: the one whose answer was lost, as it
// was, or what is finished now.
func (s *Source) nextCommit() *manifest.Commit {
	if s.unsent != nil {
		return s.unsent
	}
	pos := s.index.Position()
	if pos.Generation == 0 {
		pos.Epoch = manifest.Epoch(randomID())
	}
	slices.SortFunc(s.done, inOrder)
	n := min(len(s.done), commitMax)
	c := &manifest.Commit{
		Epoch: pos.Epoch, Generation: pos.Generation + 1, Prev: pos.Commit,
		Writer: s.opt.Writer, WriteID: randomID(), Time: time.Now().UTC(),
		Changes: make([]manifest.Change, n),
	}
	for i, o := range s.done[:n] {
		c.Changes[i] = o.change()
	}
	return c
}

// sortOut takes back what does not go together: a file, and something below
// the same name. One of the two is no longer so, and a second look tells which.
func (s *Source) sortOut(ctx context.Context) (some bool) {
	next := make(map[manifest.Path]outcome, len(s.done))
	for _, o := range s.done {
		next[o.path] = o
	}
	clash := make(map[manifest.Path]bool)
	for _, o := range s.done {
		if !o.gone {
			s.findClash(o, next, clash)
		}
	}
	if len(clash) == 0 {
		return false
	}
	s.done = slices.DeleteFunc(s.done, func(o outcome) bool { return clash[o.path] })
	v := s.view()
	var orphans []manifest.File
	for p := range clash {
		o, ok := next[p]
		switch _, known := s.index.Files().Get(p); {
		case !ok:
			v.look(p)
		case !known && !o.gone && !o.entry.IsDir():
			s.again[p] = struct{}{}
			orphans = append(orphans, o.entry.File)
		default:
			delete(s.busy, p)
			delete(s.again, p)
			s.retries.soon(p, time.Now())
		}
	}
	s.remove(ctx, orphans)
	return true
}

// findClash adds to clash the paths of o and of what o does not go together with
// in the manifest that next would make.
func (s *Source) findClash(o outcome, next map[manifest.Path]outcome, clash map[manifest.Path]bool) {
	for dir := o.path.Dir(); dir != ""; dir = dir.Dir() {
		if above, ok := next[dir]; ok && !above.gone && !above.entry.IsDir() {
			clash[o.path], clash[dir] = true, true
		} else if f, known := s.index.Files().Get(dir); known && !ok && !f.IsDir() {
			clash[o.path], clash[dir] = true, true
		}
	}
	if o.entry.IsDir() {
		return
	}
	for f := range s.index.Files().Below(o.path) {
		if below, ok := next[f.Path]; !ok || !below.gone {
			clash[o.path], clash[f.Path] = true, true
		}
	}
}

// inOrder has what is there before what is gone, a directory before what it
// holds, and deletions the other way round: wherever a long list is cut into
// commits, nothing is left below a directory that is gone.
func inOrder(a, b outcome) int {
	switch {
	case a.gone && b.gone:
		return cmp.Compare(b.path, a.path)
	case a.gone:
		return 1
	case b.gone:
		return -1
	}
	return cmp.Compare(a.path, b.path)
}

func (o outcome) change() manifest.Change {
	if o.gone {
		return manifest.Change{Op: manifest.Delete, File: manifest.File{Path: o.path}}
	}
	return manifest.Change{Op: manifest.Put, File: o.entry.File}
}

func (s *Source) announce(pos manifest.Position, c *manifest.Commit, batch []outcome) {
	if s.opt.Announcer == nil {
		return
	}
	changes := slices.Clone(c.Changes)
	for i, o := range batch {
		changes[i].Data = o.data
	}
	s.opt.Announcer.Announce(manifest.Event{
		Storage: s.opt.Storage, Source: s.opt.Source, Writer: s.opt.Writer, Seal: s.seal,
		Epoch: pos.Epoch, Generation: pos.Generation, Prev: pos.Generation - 1, Commit: pos.Commit,
		Time: c.Time, Count: len(changes), Changes: changes,
	})
}

// announceHead says where the log stands: an agent that was killed between its
// last commit and the event told nobody.
func (s *Source) announceHead() {
	pos := s.index.Position()
	if s.opt.Announcer == nil || pos.Generation == 0 {
		return
	}
	s.opt.Announcer.Announce(manifest.Event{
		Storage: s.opt.Storage, Source: s.opt.Source, Writer: s.opt.Writer, Seal: s.seal,
		Epoch: pos.Epoch, Generation: pos.Generation, Prev: pos.Generation - 1, Commit: pos.Commit,
		Time: time.Now().UTC(), Count: 1, // without the change: readers look at the log
	})
}

// replaced returns what the batch leaves of objects that no longer belong
// there: of deleted files and of files that became directories.
func (s *Source) replaced(batch []outcome) []manifest.File {
	var files []manifest.File
	for _, o := range batch {
		old, ok := s.index.Files().Get(o.path)
		if ok && !old.IsDir() && (o.gone || o.entry.IsDir()) {
			files = append(files, old)
		}
	}
	return files
}

// note takes the batch into the index.
func (s *Source) note(pos manifest.Position, batch []outcome) {
	var (
		entries []manifest.Entry
		gone    []manifest.Path
	)
	for _, o := range batch {
		if o.gone {
			gone = append(gone, o.path)
		} else {
			entries = append(entries, o.entry)
		}
	}
	s.update(pos, entries, gone)
}

// update takes a step in the index. One that the disk refuses is in memory all
// the same, and a restart finds it in the log: the source goes on.
func (s *Source) update(pos manifest.Position, entries []manifest.Entry, gone []manifest.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.index.Update(pos, entries, gone); err != nil {
		s.log.Warn("index not saved, the next start has more to read", "err", err)
	}
}

// release lets the paths of the batch be worked on again, those whose object
// must go only after it went.
func (s *Source) release(ctx context.Context, batch []outcome, replaced []manifest.File) {
	s.remove(ctx, replaced)
	v := s.view()
	for _, o := range batch {
		if s.busy[o.path] != removing {
			s.free(o.path, &v)
		}
	}
}

// free ends the work on p, and begins it again when p became dirty meanwhile.
func (s *Source) free(p manifest.Path, v *view) {
	delete(s.busy, p)
	if _, ok := s.again[p]; ok {
		delete(s.again, p)
		v.look(p)
	}
}

// checkpointDue decides whether the commit at pos is followed by a checkpoint,
// and takes the token for it.
func (s *Source) checkpointDue(pos manifest.Position) bool {
	if !manifest.CheckpointDue(pos.Since, s.index.Files().Len()) {
		return false
	}
	select {
	case s.cp <- struct{}{}:
		return true
	default:
		return false // one is being written; the next commit asks again
	}
}

// checkpoint writes the whole manifest beside the loop, and prunes what that
// makes superfluous. The caller holds the token.
func (s *Source) checkpoint(ctx context.Context, pos manifest.Position) {
	s.mu.Lock()
	files := s.index.Files().Clone()
	s.mu.Unlock()
	s.side.Go(func() {
		defer func() { <-s.cp }()
		size, err := s.wal.Checkpoint(ctx, pos, files)
		if err == nil {
			s.checkpointSize.Store(int64(size))
			err = s.wal.Prune(ctx, time.Now())
		}
		if err != nil {
			s.log.Warn("checkpoint not written, the log grows", "generation", pos.Generation, "err", err)
		}
	})
}

// report tells people and metrics of a commit.
func (s *Source) report(pos manifest.Position, c *manifest.Commit, batch []outcome) {
	info := Committed{Pos: pos, Changes: c.Changes}
	s.mu.Lock()
	for _, o := range batch {
		s.count(o)
		info.UploadedBytes += o.uploaded
		if took := time.Since(o.began); took > info.Took {
			info.Took = took
		}
	}
	s.status.Commits++
	s.status.Changes += int64(len(batch))
	s.mu.Unlock()
	s.log.Info("committed", "generation", pos.Generation, "changes", len(c.Changes),
		"uploaded_bytes", info.UploadedBytes, "took", info.Took.Round(time.Microsecond))
	if s.opt.Committed != nil {
		s.opt.Committed(info)
	}
}

// count adds one committed outcome to the totals.
func (s *Source) count(o outcome) {
	t := &s.status
	switch {
	case o.gone:
		if !o.entry.IsDir() {
			t.Deleted++
		}
	case o.entry.IsDir():
	case o.wasCopied:
		t.CopiedFiles++
		t.CopiedBytes += o.copied
	case o.uploaded > 0 || o.reused > 0 || o.entry.Size == 0:
		t.UploadedFiles++
		t.UploadedBytes += o.uploaded
		t.ReusedBytes += o.reused
	}
	if o.conflict != "" {
		t.Conflicts++
	}
}
