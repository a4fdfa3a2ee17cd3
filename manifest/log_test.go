package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A bucket is a manifest.Bucket in memory.
type bucket struct {
	mu      sync.Mutex // guards all below
	objects map[string]object
	revs    int
	calls   map[string]int
	lost    int // creates that are carried out and whose answer is lost
}

type object struct {
	body []byte
	rev  string
	time time.Time
}

func newBucket() *bucket { return &bucket{objects: map[string]object{}, calls: map[string]int{}} }

func (b *bucket) Read(_ context.Context, key string) ([]byte, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls["read"]++
	o, ok := b.objects[key]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return o.body, o.rev, nil
}

var errLost = errors.New("answer lost")

func (b *bucket) Create(_ context.Context, key string, body []byte) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls["create"]++
	if _, ok := b.objects[key]; ok {
		return "", fmt.Errorf("%s: %w", key, fs.ErrExist)
	}
	rev := b.store(key, body)
	if b.lost > 0 {
		b.lost--
		return "", errLost
	}
	return rev, nil
}

// store is called with mu held.
func (b *bucket) store(key string, body []byte) string {
	b.revs++
	b.objects[key] = object{slices.Clone(body), fmt.Sprint("r", b.revs), time.Now()}
	return b.objects[key].rev
}

func (b *bucket) List(_ context.Context, prefix, after string) iter.Seq2[manifest.Object, error] {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls["list"]++
	objects := maps.Clone(b.objects)
	return func(yield func(manifest.Object, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(key, prefix) && key > after {
				if !yield(manifest.Object{Key: key, Rev: objects[key].rev, ModTime: objects[key].time}, nil) {
					return
				}
			}
		}
	}
}

func (b *bucket) Remove(_ context.Context, keys ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
	return nil
}

func commitKey(g uint64) string     { return fmt.Sprintf(".skyagent/sources/main/log/%020d", g) }
func checkpointKey(g uint64) string { return fmt.Sprintf(".skyagent/sources/main/checkpoint/%020d", g) }

// overwrite puts other bytes under key, as a fault of the store would.
func (b *bucket) overwrite(key, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store(key, []byte(body))
}

// age makes every object look so much older.
func (b *bucket) age(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, o := range b.objects {
		o.time = o.time.Add(-d)
		b.objects[key] = o
	}
}

// A chain is a log that a test writes, and every state that it had.
type chain struct {
	t      *testing.T
	bucket *bucket
	log    *manifest.Log
	epoch  manifest.Epoch
	places []manifest.Position  // by generation
	states []*manifest.Manifest // by generation
}

func newChain(t *testing.T, b *bucket, epoch manifest.Epoch) *chain {
	return &chain{t: t, bucket: b, log: manifest.NewLog(b, "main"), epoch: epoch,
		places: make([]manifest.Position, 1), states: []*manifest.Manifest{manifest.New()}}
}

func (c *chain) head() manifest.Position { return c.places[len(c.places)-1] }

func (c *chain) next() manifest.Commit {
	pos := c.head()
	return manifest.Commit{
		Epoch: c.epoch, Generation: pos.Generation + 1, Prev: pos.Commit, Writer: "w", WriteID: fmt.Sprint("id", pos.Generation+1),
		Time: time.Unix(int64(pos.Generation), 0).UTC(),
		Changes: []manifest.Change{
			{Op: manifest.Put, File: file(manifest.Path(fmt.Sprint("f", pos.Generation%7)), fmt.Sprint(pos.Generation))},
			{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(fmt.Sprint("f", (pos.Generation+3)%7))}},
		},
	}
}

func (c *chain) grow(n int) {
	c.t.Helper()
	for range n {
		commit := c.next()
		pos, err := c.log.Append(c.t.Context(), c.head(), commit)
		if err != nil {
			c.t.Fatal(err)
		}
		m := manifest.New()
		for f := range c.states[len(c.states)-1].All() {
			m.Put(f)
		}
		m.Apply(commit.Changes)
		c.places, c.states = append(c.places, pos), append(c.states, m)
	}
}

func (c *chain) checkpoint(g int) {
	c.t.Helper()
	if _, err := c.log.Checkpoint(c.t.Context(), c.places[g], c.states[g]); err != nil {
		c.t.Fatal(err)
	}
}

// follow goes on from generation g as a reader does: by the commits, or by
// the newest checkpoint when they do not lead on.
func (c *chain) follow(g int) (*manifest.Manifest, manifest.Position, error) {
	c.t.Helper()
	commits, pos, err := c.log.Since(c.t.Context(), c.places[g])
	m := manifest.New()
	for f := range c.states[g].All() {
		m.Put(f)
	}
	for _, commit := range commits {
		m.Apply(commit.Changes)
	}
	if errors.Is(err, manifest.ErrGap) || errors.Is(err, manifest.ErrCorrupt) {
		return c.log.Load(c.t.Context())
	}
	return m, pos, err
}

// leads checks that every reader that stands at one of the generations comes to the head.
func (c *chain) leads(from ...int) {
	c.t.Helper()
	for _, g := range from {
		m, pos, err := c.follow(g)
		if err != nil || pos.Generation != c.head().Generation || pos.Commit != c.head().Commit || !same(m, c.states[len(c.states)-1]) {
			c.t.Errorf("from generation %d: got %d, %v", g, pos.Generation, err)
		}
	}
}

func every(n int) []int {
	var all []int
	for g := range n + 1 {
		all = append(all, g)
	}
	return all
}

func TestLogLeadsOn(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	if _, _, err := c.log.Load(t.Context()); !errors.Is(err, manifest.ErrNoLog) {
		t.Errorf("empty: %v", err)
	}
	if g, err := c.log.Head(t.Context()); g != 0 || err != nil {
		t.Errorf("empty: head %d, %v", g, err)
	}
	c.grow(40)
	c.leads(every(40)...)
	if g, err := c.log.Head(t.Context()); g != 40 || err != nil {
		t.Errorf("head %d, %v", g, err)
	}
	clear(b.calls)
	commits, pos, err := c.log.Since(t.Context(), c.head())
	if len(commits) != 0 || pos != c.head() || err != nil {
		t.Errorf("at the head: %d commits, %+v, %v", len(commits), pos, err)
	}
	if b.calls["list"] != 1 || b.calls["read"] != 0 {
		t.Errorf("nothing new cost %v", b.calls)
	}
}

func TestAppendMustFollow(t *testing.T) {
	c := newChain(t, newBucket(), "E")
	c.grow(2)
	skipping := c.next()
	skipping.Generation++
	other := c.next()
	other.Prev = manifest.Sum([]byte("another"))
	for _, commit := range []manifest.Commit{skipping, other} {
		if _, err := c.log.Append(t.Context(), c.head(), commit); err == nil {
			t.Errorf("commit %d on %v was taken", commit.Generation, commit.Prev)
		}
	}
	if g, _ := c.log.Head(t.Context()); g != 2 {
		t.Errorf("head is %d", g)
	}
}

func TestAppendRace(t *testing.T) {
	c := newChain(t, newBucket(), "E")
	c.grow(1)
	const writers = 32
	errs := make([]error, writers)
	places := make([]manifest.Position, writers)
	var group sync.WaitGroup
	for i := range writers {
		commit := c.next()
		commit.Writer, commit.WriteID = fmt.Sprint("writer", i), fmt.Sprint("id", i)
		group.Go(func() { places[i], errs[i] = c.log.Append(t.Context(), c.head(), commit) })
	}
	group.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		t.Fatalf("nobody won: %v", errs)
	}
	for i, err := range errs {
		var fenced *manifest.FencedError
		switch {
		case i == winner:
		case !errors.As(err, &fenced):
			t.Errorf("writer %d: %v, want a *FencedError", i, err)
		case fenced.Winner.Writer != fmt.Sprint("writer", winner) || !strings.Contains(err.Error(), fenced.Winner.Writer):
			t.Errorf("writer %d is told of %q: %v", i, fenced.Winner.Writer, err)
		case places[i] != c.head():
			t.Errorf("writer %d is at %+v", i, places[i])
		}
	}
	commits, _, err := c.log.Since(t.Context(), c.head())
	if err != nil || len(commits) != 1 || commits[0].Writer != fmt.Sprint("writer", winner) {
		t.Errorf("the log has %+v, %v", commits, err)
	}
}

func TestAppendLostAnswer(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(1)
	b.lost = 1
	commit := c.next()
	if _, err := c.log.Append(t.Context(), c.head(), commit); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	pos, err := c.log.Append(t.Context(), c.head(), commit)
	want := manifest.Position{Epoch: "E", Generation: 2, Commit: manifest.Sum(b.objects[commitKey(2)].body), Rev: b.objects[commitKey(2)].rev}
	if err != nil || pos != want {
		t.Errorf("the second attempt: %+v, %v, want %+v", pos, err, want)
	}
	commit.WriteID = "another attempt"
	var fenced *manifest.FencedError
	if _, err := c.log.Append(t.Context(), c.head(), commit); !errors.As(err, &fenced) {
		t.Errorf("another commit of the same writer: %v", err)
	}
}

func TestLogGaps(t *testing.T) {
	for name, harm := range map[string]func(b *bucket, c *chain){
		"wiped":           func(b *bucket, c *chain) { clear(b.objects) },
		"begun anew":      func(b *bucket, c *chain) { clear(b.objects); newChain(c.t, b, "OTHER").grow(2) },
		"anew and longer": func(b *bucket, c *chain) { clear(b.objects); newChain(c.t, b, "OTHER").grow(9) },
		"pruned":          func(b *bucket, c *chain) { delete(b.objects, commitKey(3)); delete(b.objects, commitKey(4)) },
		"hole":            func(b *bucket, c *chain) { delete(b.objects, commitKey(4)) },
	} {
		b := newBucket()
		c := newChain(t, b, "E")
		c.grow(5)
		harm(b, c)
		commits, pos, err := c.log.Since(t.Context(), c.places[3])
		if !errors.Is(err, manifest.ErrGap) || len(commits) != 0 || pos != c.places[3] {
			t.Errorf("%s: %d commits, %+v, %v", name, len(commits), pos, err)
		}
	}
}

// What lies before a gap or a damage is told.
func TestLogTellsWhatLeadsOn(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(6)
	delete(b.objects, commitKey(5))
	commits, pos, err := c.log.Since(t.Context(), c.places[2])
	if !errors.Is(err, manifest.ErrGap) || len(commits) != 2 || pos != c.places[4] {
		t.Errorf("gap: %d commits, %+v, %v", len(commits), pos, err)
	}
	b.overwrite(commitKey(5), "garbage")
	commits, pos, err = c.log.Since(t.Context(), c.places[2])
	if !errors.Is(err, manifest.ErrCorrupt) || len(commits) != 2 || pos != c.places[4] || !strings.Contains(err.Error(), commitKey(5)) {
		t.Errorf("damage: %d commits, %+v, %v", len(commits), pos, err)
	}
	m, pos, err := c.log.Load(t.Context())
	if !errors.Is(err, manifest.ErrCorrupt) || pos != c.places[4] || !same(m, c.states[4]) {
		t.Errorf("load: %+v, %v", pos, err)
	}
	// A commit that was put in another's place is not what it says either.
	b.overwrite(commitKey(5), string(b.objects[commitKey(6)].body))
	if _, _, err = c.log.Since(t.Context(), c.places[4]); !errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("misplaced: %v", err)
	}
}

func TestCheckpointStandsForADamagedCommit(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(8)
	b.overwrite(commitKey(5), "garbage")
	c.checkpoint(5)
	c.leads(every(8)...)
}

// A bucket that was copied has other revisions and the same log.
func TestLogInACopiedBucket(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(5)
	for key, o := range b.objects {
		b.overwrite(key, string(o.body))
	}
	c.leads(every(5)...)
}

func TestDamagedCheckpoints(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(9)
	c.checkpoint(4)
	c.checkpoint(7)
	want := b.objects[checkpointKey(7)].body
	for name, body := range map[string]string{"garbage": "garbage", "misplaced": string(b.objects[checkpointKey(4)].body)} {
		b.overwrite(checkpointKey(7), body)
		m, pos, err := c.log.Load(t.Context())
		if err != nil || pos != c.head() || !same(m, c.states[9]) {
			t.Errorf("%s: got %+v, %v", name, pos, err)
		}
	}
	newer := slices.Clone(want)
	newer[5] = 2
	b.overwrite(checkpointKey(7), string(newer))
	var version *manifest.VersionError
	if _, _, err := c.log.Load(t.Context()); !errors.As(err, &version) {
		t.Errorf("a newer version: %v", err)
	}
}

func TestPruneKeepsWhatReadersNeed(t *testing.T) {
	b := newBucket()
	c := newChain(t, b, "E")
	c.grow(30)
	for _, g := range []int{5, 10, 20, 25} {
		c.checkpoint(g)
	}
	const week = 7 * 24 * time.Hour
	if err := c.log.Prune(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.objects[commitKey(1)]; !ok {
		t.Error("a commit of today was pruned")
	}
	b.age(week + time.Hour)
	if err := c.log.Prune(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, g := range []uint64{20, 25} {
		want = append(want, checkpointKey(g))
	}
	for g := uint64(20); g <= 30; g++ {
		want = append(want, commitKey(g))
	}
	if got := slices.Sorted(maps.Keys(b.objects)); !slices.Equal(got, want) {
		t.Errorf("left are %q\nwant %q", got, want)
	}
	for g := 20; g <= 30; g++ {
		if _, _, err := c.log.Since(t.Context(), c.places[g]); err != nil {
			t.Errorf("from generation %d: %v", g, err)
		}
	}
	c.leads(every(30)...)
	c.grow(1)
	c.leads(every(31)...)
	// With the newest checkpoint damaged, the one before must do.
	b.overwrite(checkpointKey(25), "garbage")
	c.leads(every(31)...)
	if g, err := c.log.Head(t.Context()); g != 31 || err != nil {
		t.Errorf("head %d, %v", g, err)
	}
}

func TestCheckpointDue(t *testing.T) {
	for _, c := range []struct {
		changes, files int
		want           bool
	}{{0, 0, false}, {999, 10, false}, {1000, 10, true}, {1000, 10_000, true}, {1000, 10_010, false}, {99_999, 1_000_000, false}, {100_000, 1_000_000, true}} {
		if got := manifest.CheckpointDue(c.changes, c.files); got != c.want {
			t.Errorf("%d changes of %d files: got %v", c.changes, c.files, got)
		}
	}
}
