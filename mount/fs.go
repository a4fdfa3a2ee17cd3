package mount

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

const dirMode = fs.ModeDir

// errStale says that another version stands in the place of the one that was
// opened.
const errStale = syscall.ESTALE

// An FS is a mounted storage. New makes one, Run mounts it and serves it.
type FS struct {
	opt     Options
	log     *slog.Logger
	tree    *tree
	queue   *queue
	journal *journal
	lock    *flock.Flock // of the state
	early   early
	doubts  map[manifest.Path]int // what the bucket is asked about; guarded by the tree's mutex
	removed graveyard             // guarded by the tree's mutex
	resumes bool                  // what is done is in the journal of a former life; guarded by the tree's mutex
	count   counts

	ctx    context.Context // of what goes on in the background; ended by Run
	cancel context.CancelFunc
	group  sync.WaitGroup

	kernel  kernel // told of what has changed
	handles handles
	walks   walks
	replay  replay
	locks   locks
	refused refusals

	keeping   atomic.Int64  // numbers names of stages
	trust     atomic.Bool   // the kernel may keep what it is told; only changed with mu held
	catching  chan struct{} // holds a token when something was missed
	comparing chan struct{} // holds a token when the bucket must be listed
	noting    chan struct{} // holds a token when something is to be noted
	noted     manifest.NotesPos

	noter  sync.Mutex // held by the one that writes a note; comes before mu
	taking sync.Mutex // held while commits are taken, in their order; comes before mu and the tree's

	mu      sync.Mutex // guards what follows
	losses  int        // how often something was missed
	logs    map[string]manifest.Position
	unnoted []manifest.Write
	since   time.Time // when the oldest of unnoted was made
	noteSeq uint64
	attrs   map[*node]struct{} // whose modes and times go to the bucket soon
	reason  string
	ready   bool
	givenUp []string // the last changes that the store refused for good
	unsaid  error    // the first of them since the last Flush
}

type counts struct {
	uploads, uploaded, conflicts, failed, heard, asked, told, reconciled, staged atomic.Int64
}

// New returns an FS that has not touched anything yet.
func New(opt Options) *FS {
	opt.fill()
	m := &FS{
		opt: opt, log: opt.Log, tree: newTree(time.Now().UnixNano()), queue: newQueue(),
		catching: make(chan struct{}, 1), comparing: make(chan struct{}, 1), noting: make(chan struct{}, 1),
		doubts: map[manifest.Path]int{}, logs: map[string]manifest.Position{}, attrs: map[*node]struct{}{},
	}
	m.kernel.init()
	m.replay.init(opt.Inotify)
	m.locks.files = map[lockID]*lock{}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// stages is where files lie that are being written.
func (m *FS) stages() string { return filepath.Join(m.opt.State, "stage") }

func (m *FS) writeID() string { return rand.Text() }

// Status returns how the mount is doing.
func (m *FS) Status() Status {
	m.tree.mu.RLock()
	s := Status{Files: m.tree.files, Bytes: m.tree.bytes}
	m.tree.mu.RUnlock()
	m.mu.Lock()
	s.Ready, s.Reason, s.Pos, s.GivenUp = m.ready, m.reason, m.logs["main"], slices.Clone(m.givenUp)
	m.mu.Unlock()
	if n, err := m.queue.troubled(); err != nil {
		s.Reason = waitsFor(n, err)
	}
	s.Open, s.Pending = m.handles.len(), m.queue.changing()
	s.Trusted, s.Staged = m.trust.Load(), m.count.staged.Load()
	c := &m.count
	s.Uploads, s.UploadedBytes, s.Conflicts, s.Failed = c.uploads.Load(), c.uploaded.Load(), c.conflicts.Load(), c.failed.Load()
	s.Heard, s.Asked, s.Invalidations, s.Reconciled = c.heard.Load(), c.asked.Load(), c.told.Load(), c.reconciled.Load()
	return s
}

// Flush waits until all that was changed here is in the bucket, with the notes by
// which a mount that begins later knows of modes and attributes. It fails when
// the store refuses what is left, or has refused for good what was changed since
// the last call. What waits is tried at once.
func (m *FS) Flush(ctx context.Context) error {
	m.attrsNow()
	if err := m.queue.drain(ctx); err != nil {
		if _, trouble := m.queue.troubled(); ctx.Err() != nil && trouble != nil {
			err = trouble
		}
		return fmt.Errorf("%d changes are not in the bucket yet: %w", m.queue.changing(), err)
	}
	if err := m.notGivenUp(); err != nil || m.opt.Notes == nil {
		return err
	}
	return m.writeNotes(ctx)
}

// Refresh shows what the bucket has at and below path ("" is all) from when it
// returns.
func (m *FS) Refresh(ctx context.Context, path string) error {
	below := ""
	if path != "" {
		p, err := manifest.ParsePath(path)
		if err != nil {
			return err
		}
		if err := m.askInTurn(ctx, p); err != nil {
			return err
		}
		below = string(p) + "/"
	}
	if err := m.reconcile(ctx, below); err != nil {
		return err
	}
	if err := m.queue.looked(ctx, below); err != nil {
		return err
	}
	return m.kernel.settled(ctx)
}

// catchUpSoon has what was missed read. Until that is done opens ask the store.
func (m *FS) catchUpSoon() {
	m.mu.Lock()
	m.losses++
	m.trust.Store(false)
	m.mu.Unlock()
	wake(m.catching)
}

func (m *FS) reconcileSoon() { wake(m.comparing) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow keeps the tree true: it reads what was missed when the bus is back,
// and polls while it is away.
func (m *FS) follow(ctx context.Context) {
	told := false // the kernel keeps what it was told
	for ctx.Err() == nil {
		alive, changed := m.alive()
		if !alive && told {
			m.log.Warn("bus is away: opens ask the store")
			m.endTrust()
			m.forgetAll()
		}
		losses := m.lost()
		if m.missed(ctx, alive) && alive {
			m.beginTrust(losses)
		}
		told = alive
		var poll <-chan time.Time
		if !m.trust.Load() {
			poll = time.After(pollNotes)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-poll:
		case <-m.catching:
		}
	}
}

// tends looks after the bucket now and then, and when it is asked to. It is
// apart from follow: a listing takes its time, and the bus may die meanwhile.
func (m *FS) tends(ctx context.Context) {
	next := time.NewTimer(m.opt.Reconcile)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.comparing:
		case <-next.C:
		}
		m.tend(ctx)
		next.Reset(m.opt.Reconcile)
	}
}

// tend looks for what strangers wrote, and keeps the notes short.
func (m *FS) tend(ctx context.Context) {
	if err := m.reconcile(ctx, ""); err != nil {
		m.log.Warn("bucket not listed", "err", err)
	}
	if m.opt.Notes == nil || m.opt.ReadOnly {
		return
	}
	if err := m.opt.Notes.Compact(ctx, time.Now()); err != nil {
		m.log.Warn("notes not merged", "err", err)
	}
}

func (m *FS) alive() (bool, <-chan struct{}) {
	if m.opt.Bus == nil {
		return false, nil
	}
	changed := m.opt.Bus.Changed()
	return m.opt.Bus.Alive(), changed
}

// missed reads what was missed, unless nothing can have been, and reports
// whether the tree can be trusted then. What others wrote just before we were back
// may be noted a moment later; what is noted later than that, they say again.
func (m *FS) missed(ctx context.Context, alive bool) bool {
	if m.trust.Load() {
		return true
	}
	for i := range 2 {
		if i > 0 && (!alive || pause(ctx, noteSoon) != nil) {
			break
		}
		if err := m.catchUp(ctx); err != nil {
			m.log.Warn("what was missed is not read yet", "err", err)
			m.setReason(err.Error())
			return false
		}
	}
	m.setReason("")
	return true
}

func (m *FS) setReason(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = reason
}

// lost returns how often something was missed so far.
func (m *FS) lost() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.losses
}

// beginTrust lets the kernel keep what it is told, unless more was missed than
// the losses after which all was read.
func (m *FS) beginTrust(losses int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trust.Store(m.losses == losses)
}

func (m *FS) endTrust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trust.Store(false)
}

// believe reports whether what the tree says of n may be served to an open: it
// is asked for all that was announced before, or the store for the object.
func (m *FS) believe(ctx context.Context, n *node) error {
	sure := m.heard(ctx)
	m.tree.mu.RLock()
	gone, p, rev, file := n.is(detached), n.path(), n.rev, n.file
	unsure := m.doubts[p] > 0
	m.tree.mu.RUnlock()
	switch {
	case gone && sure && !unsure:
		return errStale
	case gone: // what the kernel looks up next must be new enough
	case file != nil && file.dirty.Load() || rev == "" || sure && !unsure:
		return nil
	}
	if err := m.askInTurn(ctx, p); err != nil {
		return err
	}
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	if n.is(detached) {
		return errStale
	}
	return nil
}

// ascertain waits until the tree has what was announced before of name in dir, as
// far as that can be known.
func (m *FS) ascertain(ctx context.Context, dir *node, name string) {
	if !m.heard(ctx) {
		return
	}
	m.tree.mu.RLock()
	p := dir.path().Join(name)
	unsure := m.doubts[p] > 0
	m.tree.mu.RUnlock()
	if !unsure {
		return
	}
	ctx, end := context.WithTimeout(ctx, missWait)
	defer end()
	if err := m.askInTurn(ctx, p); err != nil {
		m.log.Debug("name not looked up", "path", p, "err", err)
	}
}

// missWait bounds how long the look-up of a name waits for the store, behind our
// own changes of it. The kernel holds the directory meanwhile.
const missWait = time.Second

// heard returns when the tree has all that had been announced when it was
// called, or false when that is not known.
func (m *FS) heard(ctx context.Context) bool {
	return m.trust.Load() && m.opt.Bus.Fence(ctx) == nil
}

// askInTurn asks about p after our own changes of it, those that come meanwhile
// too.
func (m *FS) askInTurn(ctx context.Context, p manifest.Path) error {
	for {
		if err := m.askOnce(ctx, p); err != errOvertaken {
			return err
		}
		m.tree.mu.RLock()
		n := m.tree.find(p)
		ours := n == nil || n.rev == "" || n.file != nil && n.file.dirty.Load() || n.key() != string(p)
		m.tree.mu.RUnlock()
		if ours {
			return nil // what stands there is on its way from here: the store knows nothing newer
		}
	}
}

func (m *FS) askOnce(ctx context.Context, p manifest.Path) error {
	j := m.queue.look(string(p))
	defer j.end()
	if err := j.turn(ctx); err != nil {
		return err
	}
	defer j.yield()
	return m.ask(ctx, j, p, "")
}

// ErrInUse says that something is mounted at the mount point, or that another
// process has the mount's state.
var ErrInUse = errors.New("it is mounted already")

// ErrNotEmpty says that a mount would hide what the mount point holds.
var ErrNotEmpty = errors.New("the directory is not empty")

// ErrPoint says that the mount point is not to be had.
var ErrPoint = errors.New("mount point")

// ErrNoDevice says that the system has no FUSE.
var ErrNoDevice = errors.New("no FUSE on this machine")

// ErrBusy says that programs have files or directories of the mount open.
var ErrBusy = errors.New("programs still use it")

// prepare makes the mount's own state, and keeps other processes away from it.
// The kernel drops the lock when the process ends, however it ends.
func (m *FS) prepare() error {
	if err := os.MkdirAll(m.stages(), 0o700); err != nil {
		return fmt.Errorf("mount state: %w", err)
	}
	m.lock = flock.New(filepath.Join(m.opt.State, "lock"))
	ok, err := m.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock %s: %w", m.lock.Path(), err)
	}
	if !ok {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, ErrInUse)
	}
	m.journal, err = openJournal(filepath.Join(m.opt.State, "journal"), m.log)
	return err
}

// shut ends what goes on in the background and then gives back what prepare
// took: what ends is said in the journal.
func (m *FS) shut() {
	m.cancel()
	m.group.Wait()
	if m.journal != nil {
		if err := m.journal.close(); err != nil {
			m.log.Warn("journal not closed", "err", err)
		}
	}
	if m.lock == nil {
		return
	}
	if err := m.lock.Close(); err != nil {
		m.log.Warn("mount state not unlocked", "err", err)
	}
}

// errno returns what the kernel is told of err.
func (m *FS) errno(err error) syscall.Errno {
	switch no, ours := ownErrno(err); {
	case err == nil:
		return 0
	case ours:
		return no
	case errors.Is(err, blocks.ErrGone), errors.Is(err, objstore.ErrPrecondition):
		return errStale
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case absent(err):
		return syscall.ENOENT
	}
	m.log.Warn("answered with an input/output error", "err", err)
	return syscall.EIO
}

// ownErrno returns the number in err, of ours or of the local disk. What the
// network met on the way to the store says nothing to a program.
func ownErrno(err error) (no syscall.Errno, ours bool) {
	var store *objstore.Error
	if errors.As(err, &store) || errors.Is(err, objstore.ErrUnreachable) {
		return 0, false
	}
	return no, errors.As(err, &no)
}
