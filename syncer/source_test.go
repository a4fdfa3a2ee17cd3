package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// judged returns a rig over a judging store.
func judged(t testing.TB) (*rig, *judge) {
	r, j := newRig(t), newJudge(t)
	r.store, r.memory = j, j.Memory
	return r, j
}

// eventually polls until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A watching is a source that runs until the test ends.
type watching struct {
	*syncer.Source
	rig   *rig
	feed  feed
	leave context.CancelFunc
	done  chan error
}

func (r *rig) watch(change ...func(*syncer.SourceOptions)) *watching {
	opt := r.options()
	for _, c := range change {
		c(&opt)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{Source: syncer.NewSource(opt), rig: r, feed: make(feed, 100), leave: cancel, done: make(chan error, 1)}
	go func() { w.done <- w.Watch(ctx, w.feed) }()
	w.feed <- manifest.Batch{Rescan: "start"}
	r.t.Cleanup(func() { w.stop() })
	return w
}

// stop ends the watch and returns its error.
func (w *watching) stop() error {
	w.leave()
	return w.ended()
}

// ended waits for the watch to end by itself.
func (w *watching) ended() error {
	w.rig.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		return err
	case <-time.After(20 * time.Second):
		w.rig.t.Fatal("the watch does not end")
		return nil
	}
}

func (w *watching) tell(paths ...manifest.Path) { w.feed <- manifest.Batch{Paths: paths} }

func (w *watching) becomes(state syncer.State) {
	w.rig.t.Helper()
	eventually(w.rig.t, "state "+string(state), func() bool { return w.Status().State == state })
}

func (w *watching) until(what string, holds func(syncer.SourceStatus) bool) {
	w.rig.t.Helper()
	eventually(w.rig.t, what, func() bool { return holds(w.Status()) })
}

func (r *rig) disk(name string) string { return filepath.Join(r.source, name) }

// object is the content at key; "(none)" when there is none.
func (r *rig) object(key string) string {
	b, ok := r.memory.Bytes(key)
	if !ok {
		return "(none)"
	}
	return string(b)
}

func (r *rig) conflicts() []string {
	return slices.DeleteFunc(r.memory.Keys(), func(key string) bool { return !conflict(key) })
}

func aged(t testing.TB, names ...string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, name := range names {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTouchIsNoChange(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("b", "2")
	r.mustSync()
	before := j.uploaded()
	now := time.Now().Add(time.Minute)
	os.Chtimes(r.disk("a"), now, now)
	os.Chtimes(r.disk("b"), now, now)
	if st := r.mustSync(); st.Commits != 0 || st.UploadedFiles != 0 || j.uploaded() != before {
		t.Errorf("status is %+v", st)
	}
}

func TestSameSizeEditWithTheOldTime(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "one")
	aged(t, r.disk("a"))
	fi, _ := os.Stat(r.disk("a"))
	r.mustSync()
	r.mustSync() // by now the file's stat is trusted
	r.write("a", "two")
	os.Chtimes(r.disk("a"), fi.ModTime(), fi.ModTime())
	if st := r.mustSync(); st.UploadedFiles != 1 || r.object("a") != "two" {
		t.Errorf("status is %+v, object %q", st, r.object("a"))
	}
}

// A second pass over an unchanged tree reads the log and nothing else.
func TestUnchangedTreeCostsNoRequests(t *testing.T) {
	r, _ := judged(t)
	for i := range 50 {
		r.write(fmt.Sprintf("d%d/f", i), fmt.Sprint(i))
		aged(t, r.disk(fmt.Sprintf("d%d/f", i)))
	}
	r.mustSync()
	r.mustSync()
	asked := 0
	r.memory.Before = func(op objstore.Op, key string) error {
		if asked++; op != objstore.OpList {
			t.Errorf("%s %s", op, key)
		}
		return nil
	}
	r.mustSync()
	if asked > 1 {
		t.Errorf("%d requests", asked)
	}
}

func TestRenameUploadsNothing(t *testing.T) {
	r, j := judged(t)
	r.write("dir/a", strings.Repeat("a", 1000))
	r.write("dir/b", strings.Repeat("b", 1000))
	r.mustSync()
	before := j.uploaded()
	os.Rename(r.disk("dir"), r.disk("moved"))
	st := r.mustSync()
	if got := j.uploaded() - before; got != 0 || st.CopiedFiles != 2 || st.UploadedBytes != 0 || st.Deleted != 2 {
		t.Errorf("%d bytes uploaded, status %+v", got, st)
	}
	if r.object("dir/a") != "(none)" || r.object("moved/a") != strings.Repeat("a", 1000) {
		t.Error("the objects did not move")
	}
	r.mustCopy()
	r.checkSame()
}

// A store without range copies, as GCS is, takes the whole of what a file
// begins with.
func TestDeltaByAppend(t *testing.T) {
	r, j := judged(t)
	j.Limits = objstore.Caps{Append: true, MinPart: 1, MaxPart: 5 << 40, MaxParts: 32}
	const size, more = 33<<20 + 5, 1 << 20 // the last part is short
	content := make([]byte, size+more)
	source := rand.NewChaCha8([32]byte{2})
	source.Read(content)
	for _, step := range []struct {
		what string
		make func()
		sent int64
	}{
		{"new", func() { content = content[:size] }, size},
		{"appended to", func() { content = content[:size+more] }, more},
		{"appended to after a change in the short part", func() { content[size+more-1]++; content = append(content, 1, 2, 3) }, size + more + 3},
		{"changed in the middle", func() { content[size/2]++ }, size + more + 3},
		{"cut", func() { content = content[:size] }, size},
	} {
		before := j.uploaded()
		step.make()
		if err := os.WriteFile(r.disk("big"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		r.mustSync()
		if got := j.uploaded() - before; got != step.sent {
			t.Errorf("%s: %d bytes uploaded, want %d", step.what, got, step.sent)
		}
		if r.object("big") != string(content) {
			t.Fatalf("%s: the object is another", step.what)
		}
	}
}

func TestDelta(t *testing.T) {
	r, j := judged(t)
	const size, part = 64 << 20, 8 << 20
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(content)
	if err := os.WriteFile(r.disk("big"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	r.mustSync()
	r.mustCopy()
	before := j.uploaded()
	f, err := os.OpenFile(r.disk("big"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("changed"), 3*part+5)
	f.Close()
	st := r.mustSync()
	if got := j.uploaded() - before; got != part || st.UploadedBytes != part || st.ReusedBytes != size-part {
		t.Errorf("%d bytes uploaded, status %+v", got, st)
	}
	got := r.mustCopy()
	if got.FetchedBytes != part || got.ReusedBytes != size-part {
		t.Errorf("fetched %d bytes, reused %d", got.FetchedBytes, got.ReusedBytes)
	}
	r.checkSame()

	before = j.uploaded() // appended to
	f, _ = os.OpenFile(r.disk("big"), os.O_APPEND|os.O_WRONLY, 0)
	f.WriteString("more")
	f.Close()
	r.mustSync()
	if got := j.uploaded() - before; got != 4 {
		t.Errorf("4 bytes appended, %d uploaded", got)
	}
	r.mustCopy()
	r.checkSame()
}

func (r *rig) foreign(key, content string) {
	r.t.Helper()
	r.put(key, content, map[string]string{"writer": "stranger"})
}

// mounted writes an object as a mount on the source's machine does.
func (r *rig) mounted(key, content string) {
	r.t.Helper()
	r.put(key, content, file(manifest.Path(key), content).Meta("writer-1", ""))
}

func (r *rig) put(key, content string, meta map[string]string) {
	r.t.Helper()
	_, err := r.memory.Put(r.t.Context(), key, strings.NewReader(content), int64(len(content)), objstore.PutOptions{Meta: meta})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestForeignObjectIsKeptBeside(t *testing.T) {
	r, _ := judged(t)
	r.write("known", "1")
	r.mustSync()
	r.foreign("known", "theirs")
	r.foreign("new", "theirs too")
	r.write("known", "22")
	r.write("new", "ours")
	st := r.mustSync()
	if st.Conflicts != 2 || r.object("known") != "22" || r.object("new") != "ours" {
		t.Errorf("status is %+v, objects %q and %q", st, r.object("known"), r.object("new"))
	}
	var kept []string
	for _, key := range r.conflicts() {
		kept = append(kept, r.object(key))
	}
	slices.Sort(kept)
	if !slices.Equal(kept, []string{"theirs", "theirs too"}) {
		t.Errorf("kept beside are %q", kept)
	}
}

// What a mount on this machine wrote has the source's writer, and is somebody
// else's all the same.
func TestMountOnThisMachineIsKeptBeside(t *testing.T) {
	r, _ := judged(t)
	r.write("known", "1")
	r.write("gone", "1")
	r.mustSync()
	r.mounted("known", "the mount's")
	r.mounted("new", "the mount's too")
	r.mounted("gone", "the mount's still")
	r.write("known", "22")
	r.write("new", "ours")
	r.remove([]manifest.Path{"gone"})
	st := r.mustSync()
	if st.Conflicts != 2 || r.object("known") != "22" || r.object("new") != "ours" || r.object("gone") != "the mount's still" {
		t.Errorf("status is %+v, objects %q, %q and %q", st, r.object("known"), r.object("new"), r.object("gone"))
	}
	var kept []string
	for _, key := range r.conflicts() {
		kept = append(kept, r.object(key))
	}
	slices.Sort(kept)
	if !slices.Equal(kept, []string{"the mount's", "the mount's too"}) {
		t.Errorf("kept beside are %q", kept)
	}
}

// A bucket that another tool filled with the same bytes is taken over.
func TestForeignObjectWithTheSameBytes(t *testing.T) {
	r, j := judged(t)
	r.write("a", "same")
	r.foreign("a", "same")
	if st := r.mustSync(); st.Conflicts != 0 || j.uploaded() != 0 {
		t.Errorf("status is %+v, %d bytes sent", st, j.uploaded())
	}
}

// What was uploaded before a crash is found and used.
func TestUploadWithoutCommitIsAdopted(t *testing.T) {
	for _, size := range []int{1, 17 << 20} {
		r, j := judged(t)
		r.write("f", strings.Repeat("x", size))
		r.memory.Before = func(op objstore.Op, key string) error {
			if strings.HasPrefix(key, logPrefix) && op == objstore.OpPut {
				return errStore
			}
			return nil
		}
		if _, err := r.sync(); !errors.Is(err, errStore) {
			t.Fatalf("got %v", err)
		}
		r.memory.Before = nil
		before := j.uploaded()
		if before != int64(size) {
			t.Fatalf("%d bytes uploaded", before)
		}
		st := r.mustSync()
		if got := j.uploaded() - before; got != 0 || st.Changes != 1 || st.Conflicts != 0 {
			t.Errorf("%d bytes sent again, status %+v", got, st)
		}
	}
}

func TestLostAnswers(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("b/c", "2")
	lost := map[string]bool{}
	r.memory.After = func(op objstore.Op, key string) error {
		if (op == objstore.OpPut || op == objstore.OpCopy) && !lost[key] && !strings.HasSuffix(key, "lease") && !strings.Contains(key, "writers") {
			lost[key] = true
			return errStore
		}
		return nil
	}
	w := r.watch(func(o *syncer.SourceOptions) { o.Workers = 1 })
	w.until("both files are committed", func(st syncer.SourceStatus) bool { return st.Files == 2 && st.State == syncer.StateReady })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if _, wrong, orphans := j.state(); len(wrong) > 0 || len(orphans) > 0 || len(r.conflicts()) > 0 {
		t.Errorf("wrong %q, orphans %q, conflicts %q", wrong, orphans, r.conflicts())
	}
	if j.pos != 1 && j.pos != 2 {
		t.Errorf("%d generations", j.pos)
	}
}

func TestSourceIndexLost(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("d/b", "2")
	r.mustSync()
	os.Remove(filepath.Join(r.state, "source.index"))
	before := j.uploaded()
	if st := r.mustSync(); st.Commits != 0 || j.uploaded() != before {
		t.Errorf("status is %+v", st)
	}
	os.Remove(filepath.Join(r.state, "source.index"))
	os.Remove(r.disk("a"))
	r.write("d/b", "22")
	if st := r.mustSync(); st.Deleted != 1 || r.object("d/b") != "22" || r.object("a") != "(none)" {
		t.Errorf("status is %+v", st)
	}
}

func TestSourceIndexCorrupt(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.mustSync()
	index := filepath.Join(r.state, "source.index")
	if err := os.WriteFile(index, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := j.uploaded()
	if st := r.mustSync(); st.Commits != 0 || j.uploaded() != before {
		t.Errorf("status is %+v", st)
	}
	aside, _ := filepath.Glob(index + ".corrupt-*")
	if len(aside) != 1 {
		t.Fatalf("put aside: %q", aside)
	}
	if b, _ := os.ReadFile(aside[0]); string(b) != "garbage" {
		t.Errorf("put aside is %q", b)
	}
}

func (r *rig) damage(g uint64) {
	r.foreign(fmt.Sprintf("%s%020d", logPrefix, g), "garbage")
}

func TestCorruptHeadCommitIsBridged(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	r.write("b", "2")
	r.mustSync()
	r.damage(2)
	r.mustSync() // notices, and writes a checkpoint
	r.write("c", "3")
	r.mustSync()
	r.mustCopy()
	r.checkSame()
}

// The same when another agent committed after it: its commits are taken over.
func TestCorruptCommitBeforeTheHead(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	index := filepath.Join(r.state, "source.index")
	old, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	r.write("b", "2")
	r.mustSync()
	os.WriteFile(index, old, 0o600)
	r.damage(1)
	r.write("c", "3")
	r.mustSync()
	r.mustCopy()
	r.checkSame()
}

func TestFence(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	w := r.watch()
	w.becomes(syncer.StateReady)
	pos := w.Status().Pos
	rival := manifest.Commit{Epoch: pos.Epoch, Generation: pos.Generation + 1, Prev: pos.Commit, Writer: "rival", WriteID: "1", Time: time.Now()}
	if _, err := syncer.OpenLog(r.memory, "main").Append(t.Context(), pos, rival); err != nil {
		t.Fatal(err)
	}
	r.write("b", "2")
	w.tell("b")
	var fenced *manifest.FencedError
	if err := w.ended(); !errors.As(err, &fenced) || fenced.Winner.Writer != "rival" {
		t.Errorf("got %v", err)
	}
}

func TestFeedThatFailsEndsTheWatch(t *testing.T) {
	r, _ := judged(t)
	broken := errors.New("broken")
	s := syncer.NewSource(r.options())
	done := make(chan error, 1)
	go func() { done <- s.Watch(t.Context(), brokenFeed{broken}) }()
	select {
	case err := <-done:
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the watch does not end")
	}
}

type brokenFeed struct{ error }

func (b brokenFeed) Next(context.Context) (manifest.Batch, error) { return manifest.Batch{}, b.error }

func TestFileThatChangesDuringUpload(t *testing.T) {
	r, j := judged(t)
	for _, size := range []int{1000, 17 << 20} {
		name := fmt.Sprint("f", size)
		r.write(name, strings.Repeat("a", size))
		changes := 0
		r.memory.Before = func(op objstore.Op, key string) error {
			if key == name && changes < 3 && (op == objstore.OpPut || op == objstore.OpHead) {
				changes++
				r.write(name, strings.Repeat(string(rune('b'+changes)), size))
			}
			return nil
		}
		r.sync()
		r.memory.Before = nil
		r.mustSync()
		if m, wrong, _ := j.state(); len(wrong) > 0 {
			t.Errorf("wrong: %q", wrong)
		} else if f, _ := m.Get(manifest.Path(name)); changes == 0 || f.Hash != sumOf(t, r.disk(name)) {
			t.Errorf("%s: after %d changes another version is committed", name, changes)
		}
	}
}

func sumOf(t testing.TB, name string) manifest.Hash {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Sum(b)
}

// A file whose parent was a file before may be named first.
func TestFileInAFormerFile(t *testing.T) {
	r, _ := judged(t)
	r.write("x/a", "file")
	w := r.watch()
	w.becomes(syncer.StateReady)
	os.Remove(r.disk("x/a"))
	r.write("x/a/b", "inside")
	w.tell("x/a/b")
	w.until("the file is committed", func(syncer.SourceStatus) bool { return r.object("x/a/b") == "inside" })
	w.becomes(syncer.StateReady)
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	r.mustCopy()
	r.checkSame()
}

// A file in the place of a former directory waits for what the directory held,
// and the deletions of that do not wait for the file.
func TestFileInPlaceOfADirectory(t *testing.T) {
	warm()
	synctest.Test(t, func(t *testing.T) {
		r, _ := judged(t)
		r.write("x/a/b", "inside")
		r.write("y", "stays")
		w := r.watch()
		w.becomes(syncer.StateReady)
		os.RemoveAll(r.disk("x"))
		r.write("x", "file")
		began := time.Now()
		w.tell("x", "x/a", "x/a/b")
		w.until("the file is committed", func(syncer.SourceStatus) bool { return r.object("x") == "file" })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A store that is away is waited for, and a failure is forgotten with its file.
func TestStoreAwayAndBack(t *testing.T) {
	r, j := judged(t)
	s := &shaky{Store: j, rand: rand.New(rand.NewPCG(1, 1)), left: -1, dies: func() {}}
	r.store = s
	r.write("a", "1")
	w := r.watch()
	w.becomes(syncer.StateReady)
	away := func(rate float64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rate = rate
	}
	away(2)
	r.write("b", "2")
	r.write("c", "3")
	w.tell("b", "c")
	w.becomes(syncer.StateDegraded)
	if st := w.Status(); len(st.Failed) == 0 || !errors.Is(slices.Collect(maps.Values(st.Failed))[0], errStore) {
		t.Errorf("status is %+v", st)
	}
	os.Remove(r.disk("c"))
	w.tell("c")
	away(0)
	w.until("all is well", func(st syncer.SourceStatus) bool {
		return st.State == syncer.StateReady && len(st.Failed) == 0 && r.object("b") == "2"
	})
}

// Many deletions go in several commits; no directory goes before what it held.
func TestDeletionsInSeveralCommits(t *testing.T) {
	r, j := judged(t)
	opt := func(o *syncer.SourceOptions) { o.AllowMassDelete = true }
	r.write("stay", "1")
	for i := range 10_050 {
		name := r.disk(fmt.Sprintf("d/%03d/%05d", i%100, i))
		if i < 100 {
			os.MkdirAll(filepath.Dir(name), 0o755)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.t = quiet{t}
	r.mustSync()
	r.mustCopy()
	before := j.pos
	os.RemoveAll(r.disk("d"))
	if _, err := r.sync(opt); err != nil {
		t.Fatal(err)
	}
	if j.pos-before < 2 {
		t.Fatalf("%d commits, want more", j.pos-before)
	}
	log := syncer.OpenLog(r.memory, "main")
	m, pos, err := log.Load(t.Context())
	if err != nil || m.Len() != 1 {
		t.Fatalf("%d entries at %d, %v", m.Len(), pos.Generation, err)
	}
	r.mustCopy()
	r.checkSame()
}

// quiet drops what is logged.
type quiet struct{ testing.TB }

func (quiet) Log(...any) {}

func (r *rig) missing(name string) bool {
	_, err := os.Lstat(filepath.Join(r.replica, name))
	return errors.Is(err, fs.ErrNotExist)
}
