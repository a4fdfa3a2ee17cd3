package syncer_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the property test with this seed alone")
	timeFlag = flag.Duration("property", 20*time.Second, "how long the property test may take")
)

// TestAnyEditsAnyFaults edits a tree at random while a source and a replica
// run, over a store that fails and a bus that lies, and kills both now and
// then. In the end all three are the same.
func TestAnyEditsAnyFaults(t *testing.T) {
	warm()
	if *seedFlag != 0 {
		runSeed(t, *seedFlag)
		return
	}
	limit := *timeFlag
	if testing.Short() {
		limit = 3 * time.Second
	}
	first, seeds := rand.Uint64N(1<<32), 0
	for began := time.Now(); time.Since(began) < limit && !t.Failed(); seeds++ {
		runSeed(t, first+uint64(seeds))
	}
	t.Logf("%d seeds", seeds)
}

// warm makes what the codec keeps, which must not belong to a bubble.
func warm() { manifest.DecodeCommit(manifest.EncodeCommit(manifest.Commit{})) }

func runSeed(t *testing.T, seed uint64) {
	t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
		if seed%8 == 0 { // by the real clock: there stats prove something
			newWorld(t, seed).run()
			return
		}
		synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run() })
	})
}

// A world is a rig whose parts run, fail, die and come back.
type world struct {
	*rig
	judge  *judge
	rand   *rand.Rand
	faults float64
	deaths bool
	faulty bool // either of both
	wiped  bool // an index of the replica was lost: what it put there is a stranger's now
	real   bool
	log    *slog.Logger
	trail  locked // what was done

	batches feed
	events  hearsay
	source  *process
	copy    *process
	status  atomic.Pointer[syncer.Source]
}

// A process is a source or replica that runs, and can be killed.
type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	store  *shaky
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{rig: newRig(t), rand: rand.New(rand.NewPCG(seed, 1)), batches: make(feed, 1000), real: seed%8 == 0}
	w.judge = newJudge(t)
	w.store, w.memory = w.judge, w.judge.Memory
	w.events = hearsay{ch: make(chan manifest.Event, 1000), rand: rand.New(rand.NewPCG(seed, 2)), mu: new(sync.Mutex)}
	switch seed % 3 {
	case 1:
		w.faults = 0.02
	case 2:
		w.faults, w.deaths = 0.03, true
	}
	w.faulty = w.faults > 0
	if w.real { // a fault costs seconds there; a death does not
		w.faults = 0
	}
	w.log = slog.New(slog.NewTextHandler(&w.trail, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return w
}

// locked lets many goroutines write.
type locked struct {
	mu sync.Mutex // guards w
	w  strings.Builder
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// hearsay is a bus that drops, repeats and reorders.
type hearsay struct {
	ch   chan manifest.Event
	mu   *sync.Mutex // guards rand
	rand *rand.Rand
}

func (h hearsay) Announce(e manifest.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Complete() && h.rand.IntN(3) == 0 {
		for i := range e.Changes { // inline bytes that are not the file's
			e.Changes[i].Data = slices.Clone(e.Changes[i].Data)
			if d := e.Changes[i].Data; len(d) > 0 && h.rand.IntN(2) == 0 {
				d[0]++
			}
		}
	}
	for range h.rand.IntN(3) {
		select {
		case h.ch <- e:
		default:
		}
	}
	if h.rand.IntN(4) == 0 {
		select {
		case old := <-h.ch:
			h.ch <- old
		default:
		}
	}
}

func (h hearsay) Next(ctx context.Context) (manifest.Event, error) {
	select {
	case e := <-h.ch:
		return e, nil
	case <-ctx.Done():
		return manifest.Event{}, ctx.Err()
	}
}

func (h hearsay) Up() bool { return false }

func (w *world) shaky(dies func()) *shaky {
	s := &shaky{Store: w.judge, rand: rand.New(rand.NewPCG(w.rand.Uint64(), 3)), rate: w.faults, left: -1, dies: dies}
	if w.deaths && w.rand.IntN(2) == 0 {
		s.left = 1 + w.rand.IntN(60)
	}
	return s
}

func (w *world) start(run func(ctx context.Context, store *shaky) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{}), store: w.shaky(cancel)}
	go func() {
		defer close(p.done)
		p.err = run(ctx, p.store)
	}()
	return p
}

func (w *world) startSource() {
	w.source = w.start(func(ctx context.Context, store *shaky) error {
		opt := w.options()
		opt.Store, opt.Announcer, opt.Log = store, w.events, w.log.With("who", "source")
		s := syncer.NewSource(opt)
		w.status.Store(s)
		return s.Watch(ctx, w.batches)
	})
	w.batches <- manifest.Batch{Rescan: "start"}
}

func (w *world) startReplica() {
	w.copy = w.start(func(ctx context.Context, store *shaky) error {
		opt := w.replicaOptions()
		opt.Store, opt.Log = store, w.log.With("who", "replica")
		return syncer.NewReplica(opt).Follow(ctx, w.events)
	})
}

// tend starts again what died or gave up.
func (w *world) tend() {
	select {
	case <-w.source.done:
		fmt.Fprintf(w, "source ended: %v\n", w.source.err)
		if w.rand.IntN(4) == 0 {
			os.Remove(filepath.Join(w.state, "source.index"))
		}
		w.startSource()
	default:
	}
	select {
	case <-w.copy.done:
		fmt.Fprintf(w, "replica ended: %v\n", w.copy.err)
		if w.rand.IntN(4) == 0 {
			w.wiped = true
			os.Remove(filepath.Join(w.state, "replica.index"))
		}
		w.startReplica()
	default:
	}
}

// Write adds to the trail.
func (w *world) Write(b []byte) (int, error) {
	w.log.Info("world: " + strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) run() {
	w.write("keep", "what is always there")
	for range 10 {
		w.edit()
	}
	w.startSource()
	w.startReplica()
	for range 3 + w.rand.IntN(6) {
		before := listing(w.rig.source)
		for range 1 + w.rand.IntN(8) {
			w.edit()
		}
		w.tell(before)
		w.pause()
		w.judge.exposes(w.replica)
		w.tend()
	}
	w.settle()
	w.source.cancel()
	w.copy.cancel()
	<-w.source.done
	<-w.copy.done
	w.judge.exposes(w.replica)
	if w.t.Failed() {
		w.t.Log(w.trail.w.String())
	}
}

// pause lets a random amount of work happen.
func (w *world) pause() {
	d := time.Duration(w.rand.IntN(200)) * time.Millisecond
	if !w.real {
		d *= 10
	}
	time.Sleep(d)
}

// settle makes the store whole and waits until all three are the same.
func (w *world) settle() {
	for _, p := range []*process{w.source, w.copy} {
		p.store.mu.Lock()
		if p.store.rate = 0; p.store.left > 0 { // the dead stay dead
			p.store.left = -1
		}
		p.store.mu.Unlock()
	}
	w.faults, w.deaths = 0, false
	limit := 10 * time.Minute
	if w.real {
		limit = 30 * time.Second
	}
	deadline := time.Now().Add(limit)
	w.batches <- manifest.Batch{Rescan: "end"}
	for time.Now().Before(deadline) {
		w.tend()
		if w.agree() == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Errorf("never the same: %s\nstatus %+v", w.agree(), w.status.Load().Status())
}

// agree says where source, bucket and replica differ.
func (w *world) agree() string {
	m, wrong, orphans := w.judge.state()
	if len(wrong) > 0 {
		return fmt.Sprintf("committed is %q", wrong)
	}
	want := listing(w.rig.source)
	got := listing(w.replica)
	for p, line := range want {
		f, ok := m.Get(p)
		if !ok || f.Mode.String()+" "+content(f) != line {
			return fmt.Sprintf("committed is %s %+v, source is %s", p, f, line)
		}
		if got[p] != line {
			return fmt.Sprintf("replica has %s %s, source %s", p, got[p], line)
		}
	}
	for f := range m.All() {
		if want[f.Path] == "" {
			return fmt.Sprintf("committed is %s, which is gone", f.Path)
		}
	}
	for p, line := range got {
		if want[p] == "" && !conflict(string(p)) && !w.wiped {
			return fmt.Sprintf("replica has %s %s, which is gone", p, line)
		}
	}
	if len(orphans) > 0 && !w.faulty { // else verify finds them
		return fmt.Sprintf("objects that nobody names: %q", orphans)
	}
	return ""
}

func content(f manifest.File) string {
	if f.IsDir() {
		return ""
	}
	return f.Hash.String()
}

// listing maps every path below dir to its mode and content.
func listing(dir string) map[manifest.Path]string {
	out := map[manifest.Path]string{}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir || d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		if d.Name() == manifest.Reserved {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(dir, p)
		fi, err := d.Info()
		if err != nil {
			return nil
		}
		line := manifest.DirMode(fi.Mode()).String() + " "
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil
			}
			line = fi.Mode().Perm().String() + " " + manifest.Sum(b).String()
		}
		out[manifest.Path(filepath.ToSlash(rel))] = line
		return nil
	})
	return out
}

// tell sends what changed since before as a watcher would, now and then not all of it.
func (w *world) tell(before map[manifest.Path]string) {
	after := listing(w.rig.source)
	var paths []manifest.Path
	for p, line := range after {
		if before[p] != line {
			paths = append(paths, p)
		}
	}
	for p := range before {
		if after[p] == "" {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	w.rand.Shuffle(len(paths), func(i, k int) { paths[i], paths[k] = paths[k], paths[i] })
	if w.rand.IntN(5) == 0 {
		paths = paths[:len(paths)/2]
	}
	for len(paths) > 0 {
		n := 1 + w.rand.IntN(len(paths))
		w.batches <- manifest.Batch{Paths: paths[:n:n]}
		paths = paths[n:]
	}
	if w.rand.IntN(6) == 0 {
		w.batches <- manifest.Batch{Rescan: "interval"}
	}
}

// name returns a random path on disk, of few, so that names are met again.
func (w *world) name() string {
	p := w.rig.source
	for range 1 + w.rand.IntN(3) {
		p = filepath.Join(p, string(rune('a'+w.rand.IntN(4))))
	}
	return p
}

func (w *world) bytes() []byte {
	return []byte(strings.Repeat(string(rune('0'+w.rand.IntN(5))), w.rand.IntN(5)*w.rand.IntN(400)))
}

// edit does one random thing to the tree; many fail, as they would by hand.
func (w *world) edit() {
	p := w.name()
	what := ""
	switch w.rand.IntN(14) {
	case 0, 1, 2, 3:
		what = "write"
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, w.bytes(), 0o644)
	case 4:
		what = "same-size edit with the old time"
		if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
			os.WriteFile(p, []byte(strings.Repeat("x", int(fi.Size()))), 0o644)
			os.Chtimes(p, fi.ModTime(), fi.ModTime())
		}
	case 5:
		what = "append"
		if f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			f.Write(w.bytes())
			f.Close()
		}
	case 6:
		what = "truncate"
		os.Truncate(p, int64(w.rand.IntN(20)))
	case 7, 8:
		to := w.name()
		what = "rename to " + to
		os.MkdirAll(filepath.Dir(to), 0o755)
		os.Rename(p, to)
	case 9:
		what = "remove"
		os.Remove(p)
	case 10:
		what = "remove all"
		os.RemoveAll(p)
	case 11:
		what = "chmod"
		if fi, err := os.Lstat(p); err == nil && fi.IsDir() {
			os.Chmod(p, []fs.FileMode{0o700, 0o755, 0o555}[w.rand.IntN(3)])
		} else if err == nil && fi.Mode().IsRegular() {
			os.Chmod(p, []fs.FileMode{0o600, 0o755, 0o444}[w.rand.IntN(3)])
		}
	case 12:
		what = "mkdir"
		os.MkdirAll(p, 0o755)
	case 13:
		what = "another type"
		fi, err := os.Lstat(p)
		os.RemoveAll(p)
		switch {
		case err != nil || fi.IsDir():
			os.MkdirAll(filepath.Dir(p), 0o755)
			os.WriteFile(p, w.bytes(), 0o644)
		case w.rand.IntN(2) == 0:
			os.Symlink("../keep", p)
		default:
			os.MkdirAll(filepath.Join(p, "a"), 0o755)
			os.WriteFile(filepath.Join(p, "b"), w.bytes(), 0o644)
		}
	}
	fmt.Fprintf(w, "%s %s\n", what, p)
}
