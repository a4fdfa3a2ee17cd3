package syncer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// Announcements are where a replica hears of commits.
type Announcements interface {
	// Next blocks until something newer may have been committed. An event
	// without an epoch says only that: look at the log.
	Next(ctx context.Context) (manifest.Event, error)
	// Up reports whether announcements can arrive at all.
	Up() bool
}

// ReplicaOptions say what a Replica follows, and where to.
type ReplicaOptions struct {
	Dir    string // absolute path of the directory
	Store  objstore.Store
	Source string // the source's id in the store
	Index  string // path of the index file; a lock stands beside it

	// Mounts lets the replica act on what mounts write beside the log, and
	// follow a bucket without a log by its listing. Written says when, nil
	// leaves it to polling.
	Mounts  bool
	Written Written

	Workers int           // transfers at a time; 0 means 64
	Poll    time.Duration // between looks at the log while the bus is away; 0 means 15 s

	Log     *slog.Logger  // nil discards
	Ready   func()        // called once, when the first generation is in place
	Applied func(Applied) // called after every step, by the loop
}

const (
	defaultPoll = 15 * time.Second
	// alivePolls is how much rarer the log is looked at while the bus lives:
	// a bus that loses or forges everything costs that much time, no more.
	alivePolls = 4
	// firstRetry is the first wait before files that failed are tried again;
	// it doubles up to lastRetry.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
	// saveWindow is how long before its commit a file may have been saved for
	// its modification time to be believed.
	saveWindow = time.Minute
	// patience is after how many tries a file that failed is believed to stay
	// so: until then the source's next commit may well heal it.
	patience = 3
)

// A Replica keeps a directory in step with a source's log. Its state belongs
// to the goroutine that runs Copy or Follow; Status and Progress may be called
// by any.
type Replica struct {
	opt  ReplicaOptions
	log  *slog.Logger
	wal  *manifest.Log
	lock *flock.Flock
	root *os.Root

	shelves []*shelf
	journal *journal

	reached manifest.Position        // the newest generation that was worked on
	failed  map[manifest.Path]error  // not in place, tried again
	said    map[manifest.Path]string // what was logged of them
	tries   int                      // steps in a row that left something undone
	damage  error                    // of the log, which leads no further; nil when it is whole
	trouble error                    // why the log could not be read; nil when it could
	ready   bool

	written *written
	beside  map[manifest.Path]bool  // changes of the running step that are not the log's
	unruled map[manifest.Path]error // what the bucket could not be asked about in it

	modes sync.Mutex // held while a directory has another mode than its own

	// moving are the files of the running step that have their new name beside
	// the old one. Only the loop writes it, before files are placed.
	moving map[manifest.Path]fs.FileInfo

	mu     sync.RWMutex // guards index and status; only the loop writes either
	index  *manifest.Index
	status ReplicaStatus

	progress progress
}

// NewReplica returns a Replica that has not touched anything yet.
func NewReplica(opt ReplicaOptions) *Replica {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Workers == 0 {
		opt.Workers = 64
	}
	if opt.Poll == 0 {
		opt.Poll = defaultPoll
	}
	return &Replica{
		opt: opt, log: opt.Log, wal: OpenLog(opt.Store, opt.Source),
		failed: make(map[manifest.Path]error),
		said:   make(map[manifest.Path]string),
		moving: make(map[manifest.Path]fs.FileInfo),
		status: ReplicaStatus{State: StateStarting},
	}
}

// Copy makes one pass: the directory is brought to the head of the log.
// manifest.ErrNoLog says that there is nothing to copy from. Files that could
// not be put in place are in Status, and no error.
func (r *Replica) Copy(ctx context.Context) error {
	if err := r.open(); err != nil {
		return err
	}
	defer r.close()
	err := r.heal(ctx)
	for try := 0; err == nil && try < onceTries; try++ {
		if err = r.advance(ctx); err != nil || !r.mayHeal() {
			break
		}
		// The source moved on while files were fetched: the log says how.
		err = pause(ctx, r.backoff())
	}
	r.publish()
	return err
}

// mayHeal reports whether a file failed that the source's next commit may bring.
func (r *Replica) mayHeal() bool {
	for _, err := range r.failed {
		if moved(err) {
			return true
		}
	}
	return false
}

// Follow keeps the directory in step until ctx ends, and returns nil then.
func (r *Replica) Follow(ctx context.Context, from Announcements) error {
	if err := r.open(); err != nil {
		return err
	}
	defer r.close()
	events, stop := mailbox(ctx, from)
	defer stop()
	writes, end := writtenBox(ctx, r.opt.Written)
	defer end()
	if err := r.heal(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0) // the log is read first, whatever the bus says
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			err = r.hear(ctx, e)
		case w := <-writes:
			err = r.hearWrites(ctx, w)
		case <-timer.C:
			err = r.advance(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := r.endure(err); err != nil {
			return err
		}
		r.begin()
		r.publish()
		timer.Reset(r.wait(from.Up()))
	}
}

// mailbox hands over the newest event while the loop is busy with an older one.
func mailbox(ctx context.Context, from Announcements) (<-chan manifest.Event, func()) {
	events := make(chan manifest.Event, 1)
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			e, err := from.Next(ctx)
			if err != nil {
				return
			}
			select {
			case <-events: // nobody took the older one
			default:
			}
			events <- e
		}
	})
	return events, func() { cancel(); group.Wait() }
}

// endure decides whether the loop can go on after err.
func (r *Replica) endure(err error) error {
	var version *manifest.VersionError
	switch {
	case errors.As(err, &version):
		return err
	case err != nil && !r.ready && hopeless(err):
		return err
	case err != nil && !errors.Is(err, manifest.ErrNoLog) && (r.trouble == nil || r.trouble.Error() != err.Error()):
		r.log.Warn("log not read, trying again", "err", err)
	}
	if err != nil {
		r.tries++
	}
	r.trouble = err
	return nil
}

// begin tells once that the first generation is in place.
func (r *Replica) begin() {
	if r.ready || r.reached.Generation == 0 && !r.written.plain || len(r.failed) > 0 && r.tries <= patience {
		return
	}
	r.ready = true
	r.publish()
	if r.opt.Ready != nil {
		r.opt.Ready()
	}
}

// wait returns how long to wait for an event before the log is looked at.
func (r *Replica) wait(up bool) time.Duration {
	every := r.opt.Poll
	switch {
	case len(r.failed) > 0 || r.trouble != nil && !errors.Is(r.trouble, manifest.ErrNoLog):
		return min(r.backoff(), every)
	case r.index.Position().Generation == 0 && !r.written.plain:
		every = min(every, time.Second) // the source has not begun
	case up:
		every *= alivePolls
	}
	return jitter(every)
}

// backoff returns the wait before the next try of what was left undone.
func (r *Replica) backoff() time.Duration {
	return jitter(min(firstRetry<<min(r.tries, 16), lastRetry))
}

// jitter spreads workers that would all come at once.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// hear takes an event: it is applied as it is when it leads on from where the
// replica stands and carries all, and is a reason to read the log otherwise.
func (r *Replica) hear(ctx context.Context, e manifest.Event) error {
	pos := r.index.Position()
	if e.Epoch == pos.Epoch && e.Epoch != "" && e.Generation <= pos.Generation {
		return nil
	}
	leadsOn := e.Epoch == pos.Epoch && e.Prev == pos.Generation && e.Complete() &&
		(e.Prev > 0 || e.Epoch != "") && len(r.failed) == 0
	if !leadsOn {
		return r.advance(ctx)
	}
	next := manifest.Position{Epoch: e.Epoch, Generation: e.Generation, Commit: e.Commit}
	r.written.listed = nil
	changes, err := r.rule(ctx, e.Changes)
	if err != nil {
		return err
	}
	return r.apply(ctx, changes, next, e.Time)
}

// advance brings the directory to the head of the log.
func (r *Replica) advance(ctx context.Context) error {
	changes, head, written, err := r.all(ctx)
	if err != nil {
		return err
	}
	changes = append(changes, r.undone(changes)...)
	if head.Epoch == r.index.Position().Epoch && head.Generation == r.index.Position().Generation && len(changes) == 0 {
		r.reached = head
		r.settled()
		r.saveWritten()
		return nil
	}
	return r.apply(ctx, changes, head, written)
}

// all returns the changes that lead to the head of the log, and beside it to
// what mounts wrote.
func (r *Replica) all(ctx context.Context) ([]manifest.Change, manifest.Position, time.Time, error) {
	if !r.opt.Mounts {
		return r.news(ctx)
	}
	r.written.listed, r.written.plain = nil, false
	if err := r.written.readNotes(ctx); err != nil {
		return nil, r.index.Position(), time.Time{}, err
	}
	changes, head, written, err := r.news(ctx)
	if errors.Is(err, manifest.ErrNoLog) {
		err = r.list(ctx)
	}
	if err == nil {
		changes, err = r.rule(ctx, changes)
	}
	return changes, head, written, err
}

// undone returns puts of the files that failed although the log has no news of
// them: they went from the directory while nobody followed, and healing failed.
func (r *Replica) undone(news []manifest.Change) []manifest.Change {
	if len(r.failed) == 0 {
		return nil
	}
	known := make(map[manifest.Path]bool, len(news))
	for _, c := range news {
		known[c.Path] = true
	}
	var changes []manifest.Change
	for p := range r.failed {
		_, claimed := r.written.claims[p]
		if f, ok := r.index.Files().Get(p); ok && !known[p] && !claimed {
			changes = append(changes, manifest.Change{Op: manifest.Put, File: f})
		}
	}
	return changes
}

// news returns the changes that lead to the head of the log, and when the last
// of them was committed, if the log was read commit by commit.
func (r *Replica) news(ctx context.Context) ([]manifest.Change, manifest.Position, time.Time, error) {
	r.mu.Lock()
	r.status.Polls++
	r.mu.Unlock()
	r.damage = nil
	pos := r.index.Position()
	var written time.Time
	if pos.Generation > 0 {
		commits, head, err := r.wal.Since(ctx, pos)
		if len(commits) > 0 || err == nil {
			var changes []manifest.Change
			for _, c := range commits {
				changes = append(changes, c.Changes...)
				written = c.Time
			}
			return manifest.Squash(changes), head, written, nil
		}
		if !errors.Is(err, manifest.ErrGap) && !errors.Is(err, manifest.ErrCorrupt) {
			return nil, pos, written, err
		}
		r.log.Info("log does not lead on, reading its newest checkpoint", "generation", pos.Generation, "err", err)
	}
	m, head, err := r.wal.Load(ctx)
	switch {
	case err != nil && (m == nil || head.Epoch == pos.Epoch && head.Generation <= pos.Generation || head.Generation == 0):
		return nil, pos, written, err
	case err != nil:
		r.log.Info("log is damaged, going as far as it leads", "generation", head.Generation, "err", err)
		r.damage = err
	}
	r.written.follow(m)
	return manifest.Diff(r.index.Files(), m), head, written, nil
}

// heal compares the directory with the index and puts back what is missing or
// was changed while nobody followed.
func (r *Replica) heal(ctx context.Context) error {
	if r.index.Position().Generation == 0 && r.index.Files().Len() == 0 {
		return nil
	}
	scan, err := manifest.ScanTree(ctx, r.opt.Dir, r.index)
	if err != nil {
		return err
	}
	var changes []manifest.Change
	put := func(p manifest.Path) {
		if f, ok := r.index.Files().Get(p); ok {
			changes = append(changes, manifest.Change{Op: manifest.Put, File: f})
		}
	}
	for _, d := range scan.Changed {
		put(d.Path)
	}
	for _, p := range scan.Gone {
		put(p)
	}
	if len(changes) == 0 {
		return nil
	}
	return r.apply(ctx, changes, r.index.Position(), time.Time{})
}

// apply makes the changes and moves the index on. When a file fails, the rest
// is done all the same, and the index keeps its place, so that the log is read
// from there again.
func (r *Replica) apply(ctx context.Context, changes []manifest.Change, head manifest.Position, written time.Time) error {
	began := time.Now()
	if err := r.checkDir(); err != nil {
		return err
	}
	plan := r.plan(changes)
	done := r.carryOut(ctx, plan)
	maps.Copy(done.failed, r.unruled)
	r.unruled = nil
	if err := ctx.Err(); err != nil && len(done.failed) > 0 {
		r.note(r.index.Position(), done)
		return err
	}
	at := head
	if len(done.failed) > 0 {
		at = r.index.Position()
	}
	r.note(at, done)
	r.took(changes, done.failed)
	r.failed, r.reached = done.failed, head
	if len(done.failed) > 0 {
		r.tries++
		r.complain(done.failed)
	} else {
		r.settled()
	}
	r.report(head, done, began, written)
	return nil
}

// checkDir makes sure that the directory's name still stands for what was
// opened: one that was moved away would go on being filled, unseen.
func (r *Replica) checkDir() error {
	named, err := os.Stat(r.opt.Dir)
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	opened, err := r.root.Stat(".")
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	if !os.SameFile(named, opened) {
		return fmt.Errorf("replica %s was moved or replaced; start again to fill what is there now", r.opt.Dir)
	}
	return nil
}

// settled says that nothing is left undone.
func (r *Replica) settled() {
	r.tries = 0
	clear(r.failed)
	clear(r.said)
}

// complain logs files that failed, once it is clear that they do not heal by
// the source's next commit.
func (r *Replica) complain(failed map[manifest.Path]error) {
	for p, err := range failed {
		if (r.tries > patience || !moved(err)) && r.said[p] != err.Error() {
			r.said[p] = err.Error()
			r.log.Warn("not in place", "path", p, "err", err)
		}
	}
}

// note takes a step in the index. One that the disk refuses is in memory all
// the same, and a restart reads it in the log again: the replica goes on.
func (r *Replica) note(pos manifest.Position, done *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.index.Update(pos, done.placed, done.gone); err != nil {
		r.log.Warn("index not saved, the next start has more to read", "err", err)
		return
	}
	if err := r.journal.clear(); err != nil {
		r.log.Warn("journal not cleared", "err", err)
	}
}

func (r *Replica) report(head manifest.Position, done *result, began, written time.Time) {
	r.mu.Lock()
	t := &r.status
	t.Generations++
	t.FetchedFiles += done.fetchedFiles
	t.FetchedBytes += done.fetchedBytes
	t.InlineFiles += done.inlineFiles
	t.ReusedBytes += done.reusedBytes
	t.Deleted += done.deleted
	t.Conflicts += done.conflicts
	r.mu.Unlock()
	info := Applied{Pos: head, Failed: len(done.failed), Took: time.Since(began)}
	if r.ready && !written.IsZero() {
		info.Lag = max(0, time.Since(written))
	}
	for _, e := range done.placed {
		info.Changes = append(info.Changes, e.Path)
		if saved := e.ModTime(); r.ready && !e.IsDir() && !saved.After(written) && written.Sub(saved) < saveWindow {
			info.Saved = append(info.Saved, max(0, time.Since(saved)))
		}
	}
	info.Changes = append(info.Changes, done.gone...)
	r.log.Info("applied", "generation", head.Generation, "changes", len(info.Changes), "failed", info.Failed,
		"fetched_bytes", done.fetchedBytes, "took", info.Took.Round(time.Microsecond))
	if r.opt.Applied != nil {
		r.opt.Applied(info)
	}
}

// open locks and reads the index, and opens the directory, which is made when
// it is missing. Temporary files of an earlier run are swept.
func (r *Replica) open() (err error) {
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := os.MkdirAll(r.opt.Dir, 0o755); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	if r.lock, err = lockIndex(r.opt.Index); err != nil {
		return fmt.Errorf("replica %s: %w", r.opt.Dir, err)
	}
	if r.index, err = openIndex(r.opt.Index, r.log); err != nil {
		return err
	}
	if r.root, err = os.OpenRoot(r.opt.Dir); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	if r.shelves, err = openShelves(r.root); err != nil {
		return fmt.Errorf("replica: temporary files: %w", err)
	}
	r.written = openWritten(r.opt.Index+".mounts", r.opt.Store)
	var left []manifest.File
	if r.journal, left, err = openJournal(r.opt.Index + ".placing"); err != nil {
		return err
	}
	return r.recover(left)
}

// close gives back what open took, all or some.
func (r *Replica) close() {
	var err error
	for _, s := range r.shelves {
		s.close()
	}
	if r.root != nil {
		r.root.RemoveAll(manifest.Reserved)
		err = r.root.Close()
	}
	if r.index != nil {
		err = errors.Join(err, r.index.Close())
	}
	if r.journal != nil {
		err = errors.Join(err, r.journal.close())
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Unlock())
	}
	if err != nil {
		r.log.Warn("not closed well", "err", err)
	}
}

// publish makes the loop's state visible to Status.
func (r *Replica) publish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.status
	t.Pos = r.reached
	t.Damage = r.damage
	t.Files, t.Bytes = r.index.Files().Count(), r.index.Files().Bytes()
	t.Failed = maps.Clone(r.failed)
	t.State, t.Reason = r.state()
}

func (r *Replica) state() (State, string) {
	switch {
	case r.trouble != nil && !errors.Is(r.trouble, manifest.ErrNoLog):
		return StateDegraded, r.trouble.Error()
	case r.damage != nil:
		return StateDegraded, r.damage.Error()
	case !r.ready:
		return StateStarting, ""
	case len(r.failed) > 0:
		return StatePartial, fmt.Sprintf("%d files are not in place", len(r.failed))
	}
	return StateReady, ""
}

// Status returns the replica as it is now.
func (r *Replica) Status() ReplicaStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.status
}

// Progress returns how much of the running step is done.
func (r *Replica) Progress() Progress { return r.progress.read() }
