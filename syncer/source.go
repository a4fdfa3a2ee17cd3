package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/semaphore"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A Feed is where a source's settled batches come from. The first one asks for
// a Rescan.
type Feed interface {
	Next(ctx context.Context) (manifest.Batch, error)
}

// An Announcer tells workers of a commit. It must not block.
type Announcer interface {
	Announce(manifest.Event)
}

// SourceOptions say what a Source keeps in step with what.
type SourceOptions struct {
	Root   string        // absolute path of the directory
	Tree   manifest.Tree // instead of Root, for a source of several directories and files
	Store  objstore.Store
	Source string // the source's id in the store
	Index  string // path of the index file; a lock stands beside it

	Storage   string // the storage's token in events
	Writer    string // id of this agent's key
	Public    []byte // the public half of that key
	Host      string
	Announcer Announcer // nil: nobody is told

	KeepDeleted     bool // files that go from the source stay in the bucket
	AllowMassDelete bool
	Takeover        bool
	Workers         int // uploads at a time; 0 means 64

	Log       *slog.Logger    // nil discards
	Ready     func()          // called once, when the first scan is committed
	Committed func(Committed) // called after every commit, by the loop: must be quick
}

// A GuardedError says that a mass deletion was held back.
type GuardedError struct{ Reason string }

func (e *GuardedError) Error() string { return e.Reason + "; nothing was deleted" }

// A phase says why a path is busy.
type phase uint8

const (
	sending  phase = iota + 1 // read, uploaded, or waiting for its commit
	leaving                   // gone, and waiting for its commit
	removing                  // committed as gone; its object is being deleted
)

// A Source keeps a bucket in step with a directory. Its state belongs to the
// goroutine that runs Sync or Watch; Status and Progress may be called by any.
type Source struct {
	opt   SourceOptions
	log   *slog.Logger
	wal   *manifest.Log
	lock  *flock.Flock // no other process of this machine uses the index
	lease *lease
	leads bool   // the lease is ours
	seal  string // of the writer's voucher; known once it leads

	tree      manifest.Tree
	bases     []base    // of the tree's places, in their order
	lost      string    // why one may not be read now; "" when all may
	retryRoot time.Time // when a lost one is looked at again

	queue    *queue
	memory   *semaphore.Weighted // bytes of small files that are being sent
	outcomes chan outcome
	scans    chan scanned
	scanning bool
	rescan   string                     // a scan that is due when the running one ends
	scannedN int                        // scans that ended well
	entries  int64                      // that those saw
	ignored  int                        // entries that the last one left out by rules
	busy     map[manifest.Path]phase    // queued, in flight, or not yet committed
	small    int                        // jobs under way that do not take long
	again    map[manifest.Path]struct{} // busy, and dirty again
	retries  retries                    // looked at again later
	done     []outcome                  // finished, to be committed
	since    time.Time                  // when the first of done finished
	touched  []manifest.Entry           // unchanged content under a new Stat
	unsent   *manifest.Commit           // written without an answer: to be written again as it is
	holdOff  time.Time                  // no commit before, after a failure
	failures int                        // commits that failed in a row
	failed   map[manifest.Path]error    // not synced, retried
	guard    *guard
	heard    time.Time // when the last batch came
	skipped  map[string]manifest.Skipped
	skipsNew bool          // skipped is not what Status shows
	cp       chan struct{} // holds a token while a checkpoint is being written
	side     sync.WaitGroup
	once     bool // one pass, then end
	ready    bool

	hashed         atomic.Int64 // bytes read by workers
	checkpointSize atomic.Int64 // of the last one

	mu     sync.RWMutex // guards index and status; only the loop writes either
	index  *manifest.Index
	status SourceStatus

	progress progress
}

// NewSource returns a Source that has not touched anything yet.
func NewSource(opt SourceOptions) *Source {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Workers == 0 {
		opt.Workers = 64
	}
	if len(opt.Tree.Places()) == 0 {
		opt.Tree = manifest.OneDir(opt.Root)
	}
	s := &Source{
		opt:      opt,
		tree:     opt.Tree,
		log:      opt.Log,
		wal:      OpenLog(opt.Store, opt.Source),
		queue:    newQueue(),
		memory:   semaphore.NewWeighted(memoryMax),
		outcomes: make(chan outcome, 1024),
		scans:    make(chan scanned, 1),
		busy:     make(map[manifest.Path]phase),
		again:    make(map[manifest.Path]struct{}),
		retries:  newRetries(),
		guard:    newGuard(opt.AllowMassDelete),
		failed:   make(map[manifest.Path]error),
		skipped:  make(map[string]manifest.Skipped),
		cp:       make(chan struct{}, 1),
		status:   SourceStatus{State: StateStarting},
	}
	for _, place := range opt.Tree.Places() {
		s.bases = append(s.bases, base{dir: place.Dir})
	}
	s.lease = newLease(opt.Store, opt.Source, Holder{
		Writer: opt.Writer, Host: opt.Host, PID: os.Getpid(), Root: opt.Tree.String(), Started: time.Now().UTC(),
	})
	return s
}

// open reads the index and catches up with the log.
func (s *Source) open(ctx context.Context) error {
	if err := s.openRoots(); err != nil {
		return err
	}
	lock, err := lockIndex(s.opt.Index)
	if err != nil {
		return fmt.Errorf("source %s: %w", s.tree, err)
	}
	s.lock = lock
	if s.index, err = openIndex(s.opt.Index, s.log); err != nil {
		return err
	}
	if !s.once {
		// Before the log is read: whoever had the lease may commit until it ends.
		if err := s.acquire(ctx); err != nil {
			return err
		}
	}
	if s.once {
		// The walk needs no word from the log; should there be news, another follows.
		s.startScan(ctx, "pass")
	}
	return s.catchUp(ctx)
}

// catchUp brings the index to the head of the log: to commits that were
// written but not noted before a crash, or by the agent that came before us.
func (s *Source) catchUp(ctx context.Context) error {
	pos := s.index.Position()
	if pos.Generation == 0 {
		return s.rebuild(ctx)
	}
	commits, head, err := s.wal.Since(ctx, pos)
	switch {
	case errors.Is(err, manifest.ErrGap):
		s.log.Warn("log does not lead on from the index, reading it from its checkpoint", "generation", pos.Generation, "err", err)
		return s.rebuild(ctx)
	case errors.Is(err, manifest.ErrCorrupt) && len(commits) == 0:
		return s.bridge(ctx, pos, err)
	case err != nil:
		return err
	}
	if len(commits) > 0 {
		s.scanAgain()
	}
	head.Since = pos.Since
	for _, c := range commits {
		head.Since += len(c.Changes)
		s.adopt(c.Changes, head)
	}
	return nil
}

// scanAgain asks for another scan when one runs that compares with an index
// which is about to change.
func (s *Source) scanAgain() {
	if s.scanning {
		s.rescan = "log"
	}
}

// bridge helps readers over our own newest commit, which was damaged in the
// bucket: a checkpoint of the same generation stands for it.
func (s *Source) bridge(ctx context.Context, pos manifest.Position, damage error) error {
	s.log.Warn("commit is damaged, writing a checkpoint in its place", "err", damage)
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if _, err := s.wal.Checkpoint(ctx, pos, s.index.Files()); err != nil {
		return err
	}
	return s.rebuild(ctx) // with the commits that follow, should there be any
}

// adopt notes committed changes whose files were not looked at.
func (s *Source) adopt(changes []manifest.Change, pos manifest.Position) {
	var entries []manifest.Entry
	var gone []manifest.Path
	for _, c := range changes {
		if c.Op == manifest.Delete {
			gone = append(gone, c.Path)
		} else {
			entries = append(entries, manifest.Entry{File: c.File})
		}
	}
	s.update(pos, entries, gone)
}

// rebuild makes the index from the log. What it knew of files that are the
// same in the log is kept, so that only the rest is read again.
func (s *Source) rebuild(ctx context.Context) error {
	m, pos, err := s.wal.Load(ctx)
	if errors.Is(err, manifest.ErrNoLog) && s.index.Position() == (manifest.Position{}) {
		return nil // all is new, and every scan says so
	}
	s.scanAgain()
	if errors.Is(err, manifest.ErrNoLog) {
		return s.index.Reset()
	}
	if err != nil {
		return err
	}
	var entries []manifest.Entry
	for f := range m.All() {
		e := manifest.Entry{File: f}
		if old, ok := s.index.Files().Get(f.Path); ok && old.SameContent(f) {
			e.Stat = s.index.Stat(f.Path)
		}
		entries = append(entries, e)
	}
	if err := s.index.Reset(); err != nil {
		return err
	}
	return s.index.Update(pos, entries, nil)
}

// acquire takes the lease and publishes the writer's key, once, before the
// first write. A pass that finds nothing to do never comes here.
func (s *Source) acquire(ctx context.Context) (err error) {
	if s.leads {
		return nil
	}
	if err := s.lease.take(ctx, s.opt.Takeover); err != nil {
		return err
	}
	s.leads = true
	s.seal, err = PublishWriter(ctx, s.opt.Store, s.opt.Writer, s.opt.Public)
	return err
}

// close gives back what open and acquire took.
func (s *Source) close() error {
	var err error
	if s.leads {
		ctx, cancel := context.WithTimeout(context.Background(), leaseRenew)
		defer cancel()
		err = s.lease.release(ctx)
	}
	if s.index != nil {
		err = errors.Join(err, s.index.Close())
	}
	for _, b := range s.bases {
		err = errors.Join(err, b.close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	return err
}

// disk returns the path of p on disk.
func (s *Source) disk(p manifest.Path) string { return s.tree.Disk(p) }
