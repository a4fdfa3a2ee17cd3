package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// An Object is one key of a Bucket.
type Object struct {
	Key     string
	Rev     string
	ModTime time.Time
}

// A Bucket is what a log needs of a store.
type Bucket interface {
	// Read returns the object at key; a missing one is fs.ErrNotExist.
	Read(ctx context.Context, key string) ([]byte, string, error)
	// Create writes an object that must not exist; one that does is fs.ErrExist.
	// A Create that was carried out although its answer was lost may be fs.ErrExist too.
	Create(ctx context.Context, key string, b []byte) (rev string, err error)
	// List yields the objects whose key begins with prefix and follows after, in order.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Remove deletes objects; a missing one is no error.
	Remove(ctx context.Context, keys ...string) error
}

// Errors of a Log.
var (
	// ErrNoLog says that the bucket holds no log for the source.
	ErrNoLog = errors.New("no log")
	// ErrGap says that the log no longer leads on from the position that was
	// asked for: it was pruned, or another log took its place. Load says where it stands.
	ErrGap = errors.New("the log does not lead on from there")
)

// A FencedError says that another writer committed the generation first.
type FencedError struct{ Winner Commit }

func (e *FencedError) Error() string {
	return fmt.Sprintf("generation %d was committed by writer %s at %s",
		e.Winner.Generation, e.Winner.Writer, e.Winner.Time.Format(time.RFC3339))
}

// A Log is the sequence of a source's commits in a bucket, with checkpoints
// that shorten it. Appending is put-if-absent of the next generation's key:
// of two writers exactly one wins, whatever else they do. It keeps no state
// and is safe for use by many goroutines.
type Log struct {
	bucket Bucket
	prefix string // ends in a slash
}

// NewLog returns the log of source in bucket.
func NewLog(bucket Bucket, source string) *Log {
	return &Log{bucket: bucket, prefix: SourcePrefix(source)}
}

// SourcePrefix returns the prefix of all that skyagent keeps in a bucket about source.
func SourcePrefix(source string) string { return Reserved + "/sources/" + source + "/" }

func (l *Log) commitKey(g uint64) string     { return fmt.Sprintf("%slog/%020d", l.prefix, g) }
func (l *Log) checkpointKey(g uint64) string { return fmt.Sprintf("%scheckpoint/%020d", l.prefix, g) }

// generationOf reads the generation at the end of a key.
func generationOf(key string) (uint64, bool) {
	digits := key[strings.LastIndexByte(key, '/')+1:]
	g, err := strconv.ParseUint(digits, 10, 64)
	return g, err == nil && len(digits) == 20
}

// Append writes c, which must follow pos, and returns its position. When
// another commit of that generation is there, the error is a *FencedError,
// unless it is c itself: then an earlier attempt had been carried out.
func (l *Log) Append(ctx context.Context, pos Position, c Commit) (Position, error) {
	if c.Generation != pos.Generation+1 || c.Prev != pos.Commit {
		return pos, fmt.Errorf("commit %d does not follow generation %d", c.Generation, pos.Generation)
	}
	b := EncodeCommit(c)
	next := Position{Epoch: c.Epoch, Generation: c.Generation, Commit: Sum(b)}
	key := l.commitKey(c.Generation)
	rev, err := l.bucket.Create(ctx, key, b)
	if errors.Is(err, fs.ErrExist) {
		return l.settle(ctx, pos, c)
	}
	if err != nil {
		return pos, fmt.Errorf("write commit %d: %w", c.Generation, err)
	}
	next.Rev = rev
	return next, nil
}

// settle finds out whether the commit that is there is our own.
func (l *Log) settle(ctx context.Context, pos Position, c Commit) (Position, error) {
	winner, got, err := l.commit(ctx, c.Generation)
	switch {
	case err != nil:
		return pos, err
	case winner.Writer == c.Writer && winner.WriteID == c.WriteID:
		return got, nil
	}
	return pos, &FencedError{Winner: winner}
}

// commit reads the commit of generation g.
func (l *Log) commit(ctx context.Context, g uint64) (Commit, Position, error) {
	b, rev, err := l.bucket.Read(ctx, l.commitKey(g))
	if err != nil {
		return Commit{}, Position{}, fmt.Errorf("read commit %d: %w", g, err)
	}
	c, err := DecodeCommit(b)
	if err == nil && c.Generation != g {
		err = fmt.Errorf("%w: it says generation %d", ErrCorrupt, c.Generation)
	}
	if err != nil {
		return c, Position{}, fmt.Errorf("commit %s: %w", l.commitKey(g), err)
	}
	return c, Position{Epoch: c.Epoch, Generation: g, Commit: Sum(b), Rev: rev}, nil
}

// readers bounds how many commits are read at once.
const readers = 16

// Since returns the commits that follow pos, in order, and the position of
// the last. It costs one listing and one read a commit; when nothing is new,
// the listing alone. ErrGap says that pos is not in this log, or that what
// followed was pruned; a damaged commit is ErrCorrupt. What came before either
// is returned with it.
func (l *Log) Since(ctx context.Context, pos Position) ([]Commit, Position, error) {
	heads, err := l.heads(ctx, pos, pos.Generation == 0)
	if err != nil {
		return nil, pos, err
	}
	return l.follow(ctx, pos, heads)
}

// follow reads the commits of the generations in heads, which must lead on from pos.
func (l *Log) follow(ctx context.Context, pos Position, heads []uint64) ([]Commit, Position, error) {
	commits := make([]Commit, len(heads))
	places := make([]Position, len(heads))
	errs := make([]error, len(heads))
	var group errgroup.Group
	group.SetLimit(readers)
	for i, g := range heads {
		group.Go(func() error {
			commits[i], places[i], errs[i] = l.commit(ctx, g)
			return nil
		})
	}
	group.Wait()
	for i, c := range commits {
		switch {
		case errs[i] != nil:
			return commits[:i], pos, errs[i]
		case c.Generation != pos.Generation+1 || c.Prev != pos.Commit || pos.Epoch != "" && c.Epoch != pos.Epoch:
			return commits[:i], pos, fmt.Errorf("after generation %d: %w", pos.Generation, ErrGap)
		}
		pos = places[i]
	}
	return commits, pos, nil
}

// heads lists the generations that follow pos. Unless pos is trusted, the
// listing begins at pos itself, so that a log that was wiped or begun anew is noticed.
func (l *Log) heads(ctx context.Context, pos Position, trusted bool) ([]uint64, error) {
	after := l.commitKey(0)
	if pos.Generation > 0 {
		after = l.commitKey(pos.Generation - 1)
	}
	var list []uint64
	known := trusted
	var damaged error
	for object, err := range l.bucket.List(ctx, l.prefix+"log/", after) {
		if err != nil {
			return nil, fmt.Errorf("list log: %w", err)
		}
		g, ok := generationOf(object.Key)
		switch {
		case !ok:
		case g != pos.Generation:
			list = append(list, g)
		case !trusted && object.Rev != pos.Rev:
			known, damaged = l.sameCommit(ctx, pos)
		default:
			known = true
		}
	}
	if damaged != nil {
		return nil, damaged
	}
	if !known {
		return nil, fmt.Errorf("generation %d: %w", pos.Generation, ErrGap)
	}
	return list, nil
}

// sameCommit tells whether the commit at pos, whose revision is not the one
// that was noted, is the same all the same: buckets are copied and restored.
func (l *Log) sameCommit(ctx context.Context, pos Position) (bool, error) {
	_, got, err := l.commit(ctx, pos.Generation)
	return got.Commit == pos.Commit, err
}

// Load returns the newest state of the log: the newest checkpoint that can be
// read and the commits that follow it. ErrNoLog says that there is neither.
// When a commit is damaged, what came before it is returned with ErrCorrupt.
func (l *Log) Load(ctx context.Context) (*Manifest, Position, error) {
	m, pos, err := l.newestCheckpoint(ctx)
	if err != nil {
		return nil, pos, err
	}
	// The checkpoint stands for its commit, even for one that was damaged.
	heads, err := l.heads(ctx, pos, true)
	if err != nil {
		return nil, pos, err
	}
	commits, pos, err := l.follow(ctx, pos, heads)
	for _, c := range commits {
		m.Apply(c.Changes)
	}
	if err == nil && pos.Generation == 0 {
		return nil, pos, ErrNoLog
	}
	return m, pos, err
}

// newestCheckpoint returns an empty manifest when there is no checkpoint.
func (l *Log) newestCheckpoint(ctx context.Context) (*Manifest, Position, error) {
	generations, err := l.checkpoints(ctx)
	if err != nil {
		return nil, Position{}, err
	}
	for _, g := range slices.Backward(generations) {
		c, err := l.readCheckpoint(ctx, g)
		switch {
		case err == nil:
			return c.Manifest, Position{Epoch: c.Epoch, Generation: g, Commit: c.Commit}, nil
		case !errors.Is(err, ErrCorrupt):
			return nil, Position{}, err // a newer version, too: an older checkpoint would go back in time
		}
	}
	return New(), Position{}, nil
}

func (l *Log) readCheckpoint(ctx context.Context, g uint64) (Checkpoint, error) {
	b, _, err := l.bucket.Read(ctx, l.checkpointKey(g))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read checkpoint %d: %w", g, err)
	}
	c, err := DecodeCheckpoint(b)
	if err == nil && c.Generation != g {
		err = fmt.Errorf("%w: it says generation %d", ErrCorrupt, c.Generation)
	}
	if err != nil {
		return c, fmt.Errorf("checkpoint %s: %w", l.checkpointKey(g), err)
	}
	return c, nil
}

// Head returns the newest generation, 0 when there is no log. It reads keys alone.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	checkpoints, err := l.checkpoints(ctx)
	if err != nil {
		return 0, err
	}
	var pos Position
	if n := len(checkpoints); n > 0 {
		pos.Generation = checkpoints[n-1]
	}
	heads, err := l.heads(ctx, pos, true)
	if n := len(heads); n > 0 {
		pos.Generation = heads[n-1]
	}
	return pos.Generation, err
}

func (l *Log) checkpoints(ctx context.Context) ([]uint64, error) {
	var list []uint64
	for object, err := range l.bucket.List(ctx, l.prefix+"checkpoint/", "") {
		if err != nil {
			return nil, fmt.Errorf("list checkpoints: %w", err)
		}
		if g, ok := generationOf(object.Key); ok {
			list = append(list, g)
		}
	}
	return list, nil
}

// Checkpoint writes m, which is the manifest at pos, and returns its size there.
func (l *Log) Checkpoint(ctx context.Context, pos Position, m *Manifest) (size int, err error) {
	b := EncodeCheckpoint(Checkpoint{Epoch: pos.Epoch, Generation: pos.Generation, Commit: pos.Commit, Manifest: m})
	if _, err := l.bucket.Create(ctx, l.checkpointKey(pos.Generation), b); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("write checkpoint %d: %w", pos.Generation, err)
	}
	return len(b), nil
}

const (
	keptCheckpoints = 2
	keptCommits     = 7 * 24 * time.Hour
)

// Prune removes what no reader needs: checkpoints but the last two, and
// commits that are older than both of those and than 7 days.
func (l *Log) Prune(ctx context.Context, now time.Time) error {
	generations, err := l.checkpoints(ctx)
	if err != nil || len(generations) < keptCheckpoints {
		return err
	}
	oldest := generations[len(generations)-keptCheckpoints]
	var keys []string
	for _, g := range generations[:len(generations)-keptCheckpoints] {
		keys = append(keys, l.checkpointKey(g))
	}
	for object, err := range l.bucket.List(ctx, l.prefix+"log/", "") {
		if err != nil {
			return fmt.Errorf("list log: %w", err)
		}
		g, ok := generationOf(object.Key)
		if ok && g >= oldest || now.Sub(object.ModTime) < keptCommits {
			break
		}
		if ok {
			keys = append(keys, object.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := l.bucket.Remove(ctx, keys...); err != nil {
		return fmt.Errorf("prune log: %w", err)
	}
	return nil
}

// CheckpointDue reports whether a checkpoint is worth writing when changes
// were committed since the last one: a tenth of the manifest and at least
// 1,000, so that its cost stays constant for every change.
func CheckpointDue(changes, files int) bool { return changes >= max(1000, files/10) }
