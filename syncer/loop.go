package syncer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

const (
	largeUploads = 2                     // large files sent at a time
	onceTries    = 10                    // looks at a file that keeps changing, in one pass
	rootPoll     = time.Second           // between looks at a root that is lost
	drainTime    = 10 * time.Second      // for what is under way when the source is told to stop
	lastLookTime = 2 * time.Second       // for that look at the tree
	hearing      = 50 * time.Millisecond // without a batch, before held deletions are decided on
	commitRetry  = time.Second           // first wait after a commit that failed; doubles up to laterMax
)

// Sync makes one pass: it scans the tree, brings the bucket in step and
// returns. A *GuardedError says that a mass deletion was held back while
// everything else was synced.
func (s *Source) Sync(ctx context.Context) error {
	s.once = true
	return s.run(ctx, nil)
}

// Watch keeps the bucket in step with what the feed says until ctx ends; then
// it finishes what is under way, for at most 10 seconds, and returns nil.
func (s *Source) Watch(ctx context.Context, feed Feed) error {
	return s.run(ctx, feed)
}

func (s *Source) run(ctx context.Context, feed Feed) (err error) {
	defer func() {
		if e := s.close(); err == nil {
			err = e
		}
	}()
	if err := s.open(ctx); err != nil {
		return err
	}
	// Work goes on after ctx ends, until it is drained.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, stop) })()
	var uploads sync.WaitGroup
	for i := range s.opt.Workers + largeUploads {
		uploads.Go(func() { s.upload(work, i < largeUploads) })
	}
	feeding, leave := context.WithCancel(ctx)
	defer func() {
		leave() // whoever feeds the loop would wait for ctx, which may go on
		stop()
		s.queue.close()
		go s.discard(&uploads)
		uploads.Wait()
		s.side.Wait()
	}()
	batches, lost := s.inputs(feeding, feed)
	return s.loop(ctx, work, batches, lost)
}

// inputs starts what feeds the loop beside its own workers: the batches, and
// the lease, which may be lost.
func (s *Source) inputs(ctx context.Context, feed Feed) (<-chan manifest.Batch, <-chan error) {
	batches := make(chan manifest.Batch)
	lost := make(chan error, 2)
	if s.once {
		return batches, lost
	}
	s.announceHead()
	s.side.Go(func() {
		if err := s.lease.keep(ctx, s.log); err != nil {
			lost <- err
		}
	})
	s.side.Go(func() {
		for {
			b, err := feed.Next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					lost <- err
				}
				return
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	return batches, lost
}

// loop is the one goroutine that owns the state: it takes what comes in, does
// what is due, and sleeps until the next of either.
func (s *Source) loop(ctx, work context.Context, batches <-chan manifest.Batch, lost <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := s.step(work); err != nil {
			return err
		}
		if s.once && s.idle() {
			return s.verdict()
		}
		timer.Reset(s.wait(time.Now()))
		select {
		case <-ctx.Done():
			if s.once {
				return ctx.Err()
			}
			return s.drain(work)
		case err := <-lost:
			return err
		case b := <-batches:
			s.take(work, b)
		case r := <-s.scans:
			s.takeScan(work, r)
		case o := <-s.outcomes:
			if err := s.finishAll(o); err != nil {
				return err
			}
		case <-timer.C:
			if err := s.rest(work, batches); err != nil {
				return err
			}
		}
	}
}

// rest takes what came in while the loop was at work, and decides on held
// deletions when nothing did: new names of the same files may be among it.
func (s *Source) rest(ctx context.Context, batches <-chan manifest.Batch) error {
	select {
	case b := <-batches:
		s.take(ctx, b)
	case r := <-s.scans:
		s.takeScan(ctx, r)
	case o := <-s.outcomes:
		return s.finishAll(o)
	default:
		s.decide(time.Now())
	}
	return nil
}

// step does all that is due.
func (s *Source) step(ctx context.Context) error {
	now := time.Now()
	s.retry(now)
	if s.lost != "" && !s.once && !now.Before(s.retryRoot) && s.checkRoot() {
		s.startScan(ctx, "root")
	}
	if err := s.commitAll(ctx); err != nil {
		return err
	}
	s.noteTouched()
	if !s.ready && s.scannedN > 0 && s.quiet() {
		if err := s.begin(ctx); err != nil {
			return err
		}
		s.ready = true
		s.publish() // whoever is told may ask
		if s.opt.Ready != nil {
			s.opt.Ready()
		}
	}
	s.publish()
	return nil
}

// begin makes sure that there is a log, even of an empty directory: its first
// commit says that the storage is ours to follow.
func (s *Source) begin(ctx context.Context) error {
	if s.index.Position().Generation > 0 {
		return nil
	}
	return s.commit(ctx)
}

// wait returns the time until something is due.
func (s *Source) wait(now time.Time) time.Duration {
	next := now.Add(time.Minute)
	earlier := func(at time.Time, ok bool) {
		if ok && at.Before(next) {
			next = at
		}
	}
	earlier(s.commitDue(now))
	earlier(s.guardDue(now))
	earlier(s.retries.due())
	earlier(s.retryRoot, s.lost != "" && !s.once)
	return max(0, next.Sub(now))
}

func (s *Source) retry(now time.Time) {
	v := s.view()
	for _, p := range s.retries.take(now) {
		v.look(p)
	}
}

// guardDue returns when held deletions are decided on: in one pass, when all
// else is done, since no event can still come.
func (s *Source) guardDue(now time.Time) (time.Time, bool) {
	at, ok := s.guard.due()
	if heard := s.heard.Add(hearing); at.Before(heard) {
		at = heard
	}
	if ok && s.once && !s.scanning && len(s.busy) == 0 {
		at = now
	}
	return at, ok
}

// decide lets held deletions through, or holds them for a person.
func (s *Source) decide(now time.Time) {
	at, ok := s.guardDue(now)
	if !ok || now.Before(at) || !s.checkRoot() {
		return
	}
	v := s.view()
	for p := range maps.Clone(s.guard.held) {
		v.look(p) // what came back is dropped
	}
	sent, waiting := s.coming()
	paths := s.guard.release(s.index.Files(), sent, waiting, now)
	if s.guard.reason != "" {
		s.log.Warn("guarded: deletions held back", "reason", s.guard.reason)
	}
	slices.SortFunc(paths, deepestFirst)
	for _, p := range paths {
		old, ok := s.index.Files().Get(p)
		if _, busy := s.busy[p]; busy || !ok {
			continue
		}
		if old.IsDir() && !s.leaving(p) {
			s.hold(p) // its turn comes when what it holds is free
			continue
		}
		s.busy[p] = leaving
		s.finishPut(outcome{path: p, gone: true, entry: manifest.Entry{File: old}, began: now})
	}
}

// coming returns how many files that are not committed are being sent, and how
// many more wait: some of them for what is held to go.
func (s *Source) coming() (sent, waiting int) {
	fresh := func(p manifest.Path) bool {
		f, ok := s.index.Files().Get(p)
		return !ok || f.IsDir()
	}
	for p, phase := range s.busy {
		if phase == sending && fresh(p) {
			sent++
		}
	}
	for p := range s.retries.waiting {
		if fresh(p) {
			waiting++
		}
	}
	return sent, waiting
}

// leaving reports whether all that is committed below dir is about to be
// committed as gone.
func (s *Source) leaving(dir manifest.Path) bool {
	for f := range s.index.Files().Below(dir) {
		if s.busy[f.Path] != leaving {
			return false
		}
	}
	return true
}

// finishAll takes an outcome and those that came with it.
func (s *Source) finishAll(o outcome) error {
	for {
		if err := s.finish(o); err != nil {
			return err
		}
		select {
		case o = <-s.outcomes:
		default:
			return nil
		}
	}
}

// finish takes the outcome of one job or removal.
func (s *Source) finish(o outcome) error {
	if o.paths != nil {
		s.finishRemoval(o)
		return nil
	}
	if !o.large {
		s.small--
	}
	v := s.view()
	switch {
	case o.gone:
		delete(s.busy, o.path)
		delete(s.again, o.path)
		v.look(o.path)
	case o.err != nil:
		err := s.fail(o)
		s.free(o.path, &v)
		return err
	case o.same:
		s.succeed(o.path)
		s.touched = append(s.touched, o.entry)
		s.free(o.path, &v)
	default:
		s.succeed(o.path)
		s.finishPut(o)
	}
	return nil
}

// finishPut queues a change for the next commit.
func (s *Source) finishPut(o outcome) {
	if len(s.done) == 0 {
		s.since = time.Now()
	}
	if o.conflict != "" {
		s.log.Warn("another version was in the bucket and is kept beside", "path", o.path, "kept_as", o.conflict)
	}
	s.done = append(s.done, o)
}

func (s *Source) finishRemoval(o outcome) {
	if o.err != nil {
		s.log.Warn("objects of deleted files were not removed", "count", len(o.paths), "err", o.err)
	}
	v := s.view()
	for _, p := range o.paths {
		s.free(p, &v)
	}
}

func (s *Source) succeed(p manifest.Path) {
	s.retries.forget(p)
	delete(s.failed, p)
}

// fail decides what becomes of a file that was not synced. Its error, if any,
// ends the source.
func (s *Source) fail(o outcome) error {
	now := time.Now()
	switch {
	case errors.Is(o.err, context.Canceled):
	case errors.Is(o.err, manifest.ErrUnstable):
		s.mu.Lock()
		s.status.Unstable++
		s.mu.Unlock()
		if tries := s.retries.soon(o.path, now); s.once && tries > onceTries {
			s.retries.forget(o.path)
			s.failed[o.path] = o.err
		}
	case unreadable(o.err):
		s.retries.forget(o.path)
		s.skip(manifest.Skipped{Name: string(o.path), Why: manifest.SkipUnreadable, Err: o.err})
	case !s.ready && hopeless(o.err):
		return o.err
	default:
		if s.failed[o.path] == nil {
			s.log.Warn("not synced", "path", o.path, "err", o.err)
		}
		s.failed[o.path] = o.err
		if !s.once {
			s.retries.later(o.path, now)
		}
	}
	return nil
}

// hopeless reports whether no file will fare better.
func hopeless(err error) bool {
	return errors.Is(err, objstore.ErrNoBucket) || errors.Is(err, fs.ErrPermission)
}

// commitAll commits while something is due. A store that is away is waited
// for; a rival ends the source.
func (s *Source) commitAll(ctx context.Context) error {
	for {
		now := time.Now()
		at, ok := s.commitDue(now)
		if !ok || now.Before(at) {
			return nil
		}
		err := s.commit(ctx)
		if err == nil {
			s.failures = 0
			continue
		}
		var fenced *manifest.FencedError
		var held *HeldError
		if errors.As(err, &fenced) && fenced.Winner.Writer == s.opt.Writer && s.catchUp(ctx) == nil {
			// Our own former life: its last commit arrived after we had read the log.
			s.unsent = nil
			continue
		}
		if errors.As(err, &fenced) || errors.As(err, &held) || s.once || !s.ready && hopeless(err) {
			return err
		}
		s.holdOff = time.Now().Add(min(commitRetry<<min(s.failures, 16), laterMax))
		s.failures++
		s.log.Warn("not committed, trying again", "err", err, "at", s.holdOff)
	}
}

// noteTouched takes files whose Stat changed and whose content did not into the index.
func (s *Source) noteTouched() {
	if len(s.touched) == 0 {
		return
	}
	entries := s.touched
	s.touched = nil
	s.update(s.index.Position(), entries, nil)
}

// quiet reports whether nothing is under way; something may wait to be tried again.
func (s *Source) quiet() bool {
	_, held := s.guard.due()
	return !s.scanning && !held && len(s.busy) == 0 && len(s.done) == 0 && s.unsent == nil
}

// idle reports whether nothing is left to do.
func (s *Source) idle() bool { return s.quiet() && len(s.retries.waiting) == 0 }

// verdict is the result of one pass.
func (s *Source) verdict() error {
	if s.lost != "" {
		return &GuardedError{s.lost}
	}
	if s.guard.reason != "" {
		return &GuardedError{s.guard.reason}
	}
	return nil
}

// drain finishes what is under way and commits it. The context ends when that
// has taken too long. A first sync that was broken off leaves what nobody began
// to the next start; later a last look finds what was saved just before.
func (s *Source) drain(ctx context.Context) error {
	defer s.publish() // what it leaves undone is the last word
	if s.ready && s.lost == "" {
		s.lastLook(ctx)
	} else {
		for _, j := range s.queue.close() {
			s.dismiss(j)
		}
	}
	for {
		if len(s.busy) == 0 {
			s.noteTouched()
			return nil
		}
		if len(s.busy) == len(s.done) {
			if err := s.commit(ctx); err != nil {
				return fmt.Errorf("while leaving: %w", err)
			}
			continue
		}
		select {
		case o := <-s.outcomes:
			if err := s.finishAll(o); err != nil {
				return err
			}
		case <-ctx.Done():
			s.log.Warn("left before all was uploaded; the next start goes on", "paths", len(s.busy))
			return nil
		}
	}
}

// lastLook starts the work on files that changed and have not settled yet.
// Deletions stay for the next start: they would have to wait for each other.
func (s *Source) lastLook(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastLookTime)
	defer cancel()
	scan, err := s.tree.Scan(ctx, s.index.Snapshot())
	if err != nil {
		s.log.Warn("no last look at the tree; the next start takes it", "err", err)
		return
	}
	v := view{s: s, walked: true}
	for _, d := range scan.Changed {
		v.look(d.Path)
	}
}

// dismiss takes back a job that nobody began.
func (s *Source) dismiss(j job) {
	delete(s.busy, j.path)
	if !j.large() {
		s.small--
	}
}

// discard empties the outcomes that workers still deliver while the source ends.
func (s *Source) discard(uploads *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		uploads.Wait()
		s.side.Wait()
		close(done)
	}()
	for {
		select {
		case <-s.outcomes:
		case <-s.scans:
		case <-done:
			return
		}
	}
}

// publish makes the loop's state visible to Status.
func (s *Source) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.status
	t.State, t.Reason = s.state()
	t.Pos = s.index.Position()
	t.Files, t.Bytes = s.index.Files().Count(), s.index.Files().Bytes()
	t.Dirty = len(s.busy) + len(s.retries.waiting) + len(s.guard.held)
	t.Scans, t.Scanned, t.Ignored = int64(s.scannedN), s.entries, s.ignored
	if len(t.Failed) > 0 || len(s.failed) > 0 {
		t.Failed = maps.Clone(s.failed)
	}
	if s.skipsNew {
		s.skipsNew = false
		t.Skipped = slices.SortedFunc(maps.Values(s.skipped), func(a, b manifest.Skipped) int {
			return strings.Compare(a.Name, b.Name)
		})
	}
}

func (s *Source) state() (State, string) {
	switch {
	case s.lost != "":
		return StateGuarded, s.lost
	case s.guard.reason != "":
		return StateGuarded, s.guard.reason
	case s.failures > 0:
		return StateDegraded, "the store does not take commits"
	case len(s.failed) > 0 && !s.once:
		return StateDegraded, fmt.Sprintf("%d files were not synced", len(s.failed))
	case !s.ready:
		return StateStarting, ""
	case len(s.busy) > 0:
		return StateSyncing, ""
	}
	return StateReady, ""
}

// Status returns the source as it is now.
func (s *Source) Status() SourceStatus {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.status
	st.HashedBytes, st.CheckpointBytes = s.hashed.Load(), s.checkpointSize.Load()
	return st
}

// Progress returns how much of what was found is done.
func (s *Source) Progress() Progress { return s.progress.read() }
