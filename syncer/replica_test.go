package syncer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// copied is the content of a replica's file; "(none)" when there is none.
func (r *rig) copied(name string) string {
	b, err := os.ReadFile(filepath.Join(r.replica, name))
	if err != nil {
		return "(none)"
	}
	return string(b)
}

func (r *rig) local(name, content string) {
	r.t.Helper()
	p := filepath.Join(r.replica, name)
	os.MkdirAll(filepath.Dir(p), 0o755)
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// kept returns the contents of the replica's conflict copies.
func (r *rig) kept() []string {
	var out []string
	for p, line := range listing(r.replica) {
		if conflict(string(p)) && !strings.HasPrefix(line, "d") {
			out = append(out, r.copied(string(p)))
		}
	}
	slices.Sort(out)
	return out
}

// A following is a replica that runs until the test ends.
type following struct {
	*syncer.Replica
	rig    *rig
	events hears
	leave  context.CancelFunc
	done   chan error
}

// hears is a bus that a test speaks on.
type hears chan manifest.Event

func (h hears) Next(ctx context.Context) (manifest.Event, error) {
	select {
	case e := <-h:
		return e, nil
	case <-ctx.Done():
		return manifest.Event{}, ctx.Err()
	}
}

func (h hears) Up() bool { return true }

func (r *rig) follow(change ...func(*syncer.ReplicaOptions)) *following {
	opt := r.replicaOptions()
	for _, c := range change {
		c(&opt)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{Replica: syncer.NewReplica(opt), rig: r, events: make(hears, 10), leave: cancel, done: make(chan error, 1)}
	go func() { f.done <- f.Follow(ctx, f.events) }()
	r.t.Cleanup(func() { f.stop() })
	return f
}

func (f *following) stop() error {
	f.leave()
	select {
	case err := <-f.done:
		f.done <- err
		return err
	case <-time.After(20 * time.Second):
		f.rig.t.Fatal("the replica does not end")
		return nil
	}
}

func (f *following) until(what string, holds func(syncer.ReplicaStatus) bool) {
	f.rig.t.Helper()
	eventually(f.rig.t, what, func() bool { return holds(f.Status()) })
}

func (f *following) becomes(state syncer.State) {
	f.rig.t.Helper()
	f.until("state "+string(state), func(st syncer.ReplicaStatus) bool { return st.State == state })
}

// seldom keeps a replica from looking at the log by itself.
func seldom(o *syncer.ReplicaOptions) { o.Poll = time.Hour }

func TestReplicaKeepsLocalWork(t *testing.T) {
	r, _ := judged(t)
	r.write("edited", "1")
	r.write("deleted", "2")
	r.write("foreign", "3")
	r.write("same", "4")
	r.local("foreign", "a stranger's")
	r.local("same", "4")
	r.mustSync()
	st := r.mustCopy()
	if st.Conflicts != 1 || st.FetchedFiles != 3 || !slices.Equal(r.kept(), []string{"a stranger's"}) {
		t.Errorf("first copy: %+v, kept %q", st, r.kept())
	}
	r.local("edited", "local edit")
	r.local("deleted", "another")
	r.local("own", "nobody asked for it")
	r.write("edited", "11")
	os.Remove(r.disk("deleted"))
	r.mustSync()
	if st := r.mustCopy(); st.Conflicts != 2 && st.Conflicts != 3 {
		t.Errorf("status is %+v", st)
	}
	if want := []string{"a stranger's", "another", "local edit"}; !slices.Equal(r.kept(), want) {
		t.Errorf("kept %q, want %q", r.kept(), want)
	}
	if r.copied("edited") != "11" || r.copied("own") != "nobody asked for it" || !r.missing("deleted") {
		t.Errorf("the replica has %v", listing(r.replica))
	}
}

// TestReplicaTellsOfSaves counts a save that it saw, and neither what it found
// nor what has an older time.
func TestReplicaTellsOfSaves(t *testing.T) {
	r, _ := judged(t)
	r.write("found", "1")
	r.mustSync()
	steps := make(chan syncer.Applied, 10)
	f := r.follow(func(o *syncer.ReplicaOptions) { o.Applied = func(a syncer.Applied) { steps <- a } })
	f.becomes(syncer.StateReady)
	if a := <-steps; len(a.Changes) != 1 || len(a.Saved) != 0 || a.Lag != 0 {
		t.Errorf("the first step was %+v", a)
	}
	r.write("saved", "2")
	r.write("copied", "3")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(r.disk("copied"), old, old); err != nil {
		t.Fatal(err)
	}
	r.mustSync()
	f.events <- manifest.Event{} // look at the log
	if a := <-steps; len(a.Changes) != 2 || len(a.Saved) != 1 || a.Lag <= 0 || a.Saved[0] < a.Lag || a.Saved[0] > time.Minute {
		t.Errorf("the step after a save was %+v", a)
	}
}

func TestReplicaHealsAtStart(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("d/b", "2")
	r.write("d/c", "3")
	r.mustSync()
	r.mustCopy()
	os.Remove(filepath.Join(r.replica, "a"))
	os.RemoveAll(filepath.Join(r.replica, "d"))
	os.Chmod(filepath.Join(r.replica, "d"), 0o700)
	r.mustCopy()
	r.checkSame()
	j.exposes(r.replica)
}

// What healing could not put back is tried again, whatever else is new.
func TestReplicaHealsLater(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.write("b", "2")
	r.mustSync()
	r.mustCopy()
	os.Remove(filepath.Join(r.replica, "a"))
	fail := true
	r.memory.Before = func(op objstore.Op, key string) error {
		if op == objstore.OpGet && key == "a" && fail {
			return errStore
		}
		return nil
	}
	r.write("b", "22")
	r.mustSync()
	opt := r.replicaOptions()
	c := syncer.NewReplica(opt)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c.Copy(ctx)
	if r.copied("b") != "22" || r.copied("a") != "(none)" || len(c.Status().Failed) != 1 {
		t.Errorf("a is %q, b is %q, failed %v", r.copied("a"), r.copied("b"), c.Status().Failed)
	}
	fail = false
	r.mustCopy()
	r.checkSame()
}

func TestReplicaIndexLostAndCorrupt(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.write("d/b", "2")
	r.mustSync()
	r.mustCopy()
	index := filepath.Join(r.state, "replica.index")
	for _, harm := range []func() error{
		func() error { return os.Remove(index) },
		func() error { return os.WriteFile(index, []byte("garbage"), 0o600) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if st := r.mustCopy(); st.FetchedFiles != 0 || st.Conflicts != 0 {
			t.Errorf("status is %+v", st)
		}
		r.checkSame()
	}
}

func TestReplicaSweepsItsTemporaryFiles(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	r.local(".skyagent/tmp/LEFTOVER", "half a file")
	r.mustCopy()
	if !r.missing(".skyagent") {
		t.Error("the temporary directory is still there")
	}
}

func TestReplicaWritesThroughNoSymlink(t *testing.T) {
	r, _ := judged(t)
	r.write("d/a", "1")
	r.write("e/f/b", "2")
	r.write("g", "3")
	outside := t.TempDir()
	target := filepath.Join(outside, "g")
	os.WriteFile(target, []byte("not ours"), 0o644)
	os.Symlink(outside, filepath.Join(r.replica, "d"))
	os.Symlink(target, filepath.Join(r.replica, "g"))
	r.mustSync()
	r.mustCopy()
	safe := func(when string) {
		t.Helper()
		b, _ := os.ReadFile(target)
		if entries, _ := os.ReadDir(outside); len(entries) != 1 || string(b) != "not ours" {
			t.Errorf("%s: outside are %v, %q", when, entries, b)
		}
	}
	safe("first copy")
	if r.copied("d/a") != "1" || r.copied("g") != "3" {
		t.Errorf("the replica has %v", listing(r.replica))
	}
	c := r.follow()
	c.becomes(syncer.StateReady)
	os.RemoveAll(filepath.Join(r.replica, "e"))
	os.Symlink(outside, filepath.Join(r.replica, "e")) // while it runs, above a directory
	r.write("e/f/b", "22")
	r.mustSync()
	c.events <- manifest.Event{}
	eventually(t, "the symlink is put aside", func() bool { return r.copied("e/f/b") == "22" })
	safe("while following")
	os.RemoveAll(filepath.Join(r.replica, "d"))
	os.Symlink(outside, filepath.Join(r.replica, "d"))
	os.RemoveAll(r.disk("d"))
	r.mustSync()
	c.events <- manifest.Event{}
	c.until("the deletion is applied", func(st syncer.ReplicaStatus) bool { return st.Pos.Generation == 3 && st.State == syncer.StateReady })
	safe("after a deletion")
}

func TestEpochChange(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("b", "2")
	r.mustSync()
	c := r.follow()
	c.becomes(syncer.StateReady)
	old := c.Status().Pos.Epoch
	r.memory.Delete(t.Context(), r.memory.Keys()...)
	j.head, j.pos = manifest.New(), 0
	os.Remove(filepath.Join(r.state, "source.index"))
	os.Remove(r.disk("a"))
	r.write("c", "3")
	time.Sleep(100 * time.Millisecond) // for a few looks at a bucket without a log
	if r.copied("a") != "1" {
		t.Error("a wiped bucket emptied the replica")
	}
	r.mustSync()
	c.events <- manifest.Event{}
	c.until("the new log is followed", func(st syncer.ReplicaStatus) bool { return st.Pos.Epoch != old && r.copied("c") == "3" })
	r.checkSame()
	if st := c.Status(); st.FetchedFiles != 3 { // a, b, and c
		t.Errorf("status is %+v", st)
	}
}

func TestNoLogWaits(t *testing.T) {
	r, _ := judged(t)
	if err := syncer.NewReplica(r.replicaOptions()).Copy(t.Context()); !errors.Is(err, manifest.ErrNoLog) {
		t.Errorf("one pass: %v", err)
	}
	c := r.follow()
	eventually(t, "it looks", func() bool { return c.Status().Polls > 1 })
	if st := c.Status(); st.State != syncer.StateStarting {
		t.Errorf("status is %+v", st)
	}
	r.write("a", "1")
	r.mustSync()
	c.becomes(syncer.StateReady)
	r.checkSame()
}

// An announced holds events for a test to read.
type announced chan manifest.Event

func (a announced) Announce(e manifest.Event) { a <- e }

func TestInlineBytes(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.mustSync()
	said := make(announced, 10)
	w := r.watch(func(o *syncer.SourceOptions) { o.Announcer = said })
	w.becomes(syncer.StateReady)
	if head := <-said; head.Generation != 1 || head.Complete() {
		t.Errorf("a watch that starts announces generation %d, complete %v", head.Generation, head.Complete())
	}
	c := r.follow(seldom)
	c.becomes(syncer.StateReady)

	r.write("a", "22")
	w.tell("a")
	e := <-said
	gets := 0
	r.memory.Before = func(op objstore.Op, key string) error {
		if op == objstore.OpGet && !reserved(key) {
			gets++
		}
		return nil
	}
	c.events <- e
	c.until("it is applied", func(st syncer.ReplicaStatus) bool { return st.Pos.Generation == e.Generation && r.copied("a") == "22" })
	if st := c.Status(); st.InlineFiles != 1 || gets != 0 {
		t.Errorf("%d requests, status %+v", gets, st)
	}

	r.write("a", "333")
	w.tell("a")
	e = <-said
	e.Changes[0].Data = []byte("666") // a lie
	c.events <- e
	c.until("it is applied", func(st syncer.ReplicaStatus) bool { return st.Pos.Generation == e.Generation && r.copied("a") == "333" })
	if st := c.Status(); st.InlineFiles != 1 || st.FetchedFiles != 2 {
		t.Errorf("status %+v", st)
	}
	j.exposes(r.replica)
}

// Events of another epoch, of the past and of a far future lead to the log and nowhere else.
func TestEventsThatLie(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.mustSync()
	c := r.follow(seldom)
	c.becomes(syncer.StateReady)
	pos := c.Status().Pos
	forged := manifest.Change{Op: manifest.Put, File: file("a", "forged"), Data: []byte("forged")}
	for _, e := range []manifest.Event{
		{Epoch: "OTHER", Generation: 2, Prev: 1, Count: 1, Changes: []manifest.Change{forged}},
		{Epoch: pos.Epoch, Generation: 1, Prev: 0, Count: 1, Changes: []manifest.Change{forged}},
		{Epoch: pos.Epoch, Generation: 900, Prev: 899, Count: 1, Changes: []manifest.Change{forged}},
		{Epoch: pos.Epoch, Generation: 2, Prev: 1, Count: 2, Changes: []manifest.Change{forged}},
	} {
		c.events <- e
	}
	r.write("a", "2")
	r.mustSync()
	c.events <- manifest.Event{}
	c.until("the log is followed", func(st syncer.ReplicaStatus) bool { return st.Pos.Generation == 2 && r.copied("a") == "2" })
	j.exposes(r.replica)
}

func file(p manifest.Path, content string) manifest.File {
	return manifest.File{Path: p, Mode: 0o644, Size: int64(len(content)), Hash: manifest.Sum([]byte(content))}
}

// An object that is not what was committed is never shown; the next commit heals.
func TestObjectThatChangedSinceItsCommit(t *testing.T) {
	r, j := judged(t)
	r.write("a", "1")
	r.write("b", "2")
	r.mustSync()
	r.mustCopy()
	r.write("a", "11")
	r.write("b", "22")
	r.mustSync()
	r.foreign("a", "xx")
	c := r.follow()
	c.until("it is partial", func(st syncer.ReplicaStatus) bool { return len(st.Failed) == 1 && r.copied("b") == "22" })
	if r.copied("a") != "1" {
		t.Errorf("a is %q, want the old version", r.copied("a"))
	}
	j.exposes(r.replica)
	c.becomes(syncer.StatePartial)
	r.write("a", "111")
	r.mustSync()
	c.becomes(syncer.StateReady)
	r.checkSame()
}

// A file that is cancelled while others are renamed is not forgotten.
func TestCancelLosesNoRename(t *testing.T) {
	r, _ := judged(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		r.write("old/"+name, "content of "+name)
	}
	r.mustSync()
	r.mustCopy()
	os.Rename(r.disk("old"), r.disk("new"))
	r.mustSync()
	ctx, cancel := context.WithCancel(t.Context())
	var read atomic.Int32
	r.memory.After = func(op objstore.Op, key string) error {
		if op == objstore.OpGet && strings.HasPrefix(key, logPrefix) && read.Add(1) == 2 {
			cancel() // once the puts and the deletions are read
		}
		return nil
	}
	syncer.NewReplica(r.replicaOptions()).Copy(ctx)
	r.memory.After = nil
	r.mustCopy()
	r.checkSame()
}

func TestReplicaOfALogWithADamagedCommit(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	r.mustCopy()
	r.write("b", "2")
	r.mustSync()
	r.write("c", "3")
	r.mustSync()
	r.damage(2)
	c := r.follow()
	c.becomes(syncer.StateDegraded)
	if st := c.Status(); !strings.Contains(st.Reason, "corrupt") || r.copied("a") != "1" {
		t.Errorf("status is %+v", st)
	}
	// The source notices at its next start only what it wrote last; a person
	// may write a checkpoint for it.
	os.Remove(filepath.Join(r.state, "source.index"))
	if _, err := r.sync(); !errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("without an index: %v", err)
	}
}

// A file that this disk cannot hold leaves the rest applied.
func TestFileTooLongForTheReplica(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	c := r.follow()
	c.becomes(syncer.StateReady)
	pos := c.Status().Pos
	long := file(manifest.Path(strings.Repeat("x", 300)), "too long")
	long.Rev = "r1"
	good := file("good", "")
	log := syncer.OpenLog(r.memory, "main")
	next := manifest.Commit{Epoch: pos.Epoch, Generation: 2, Prev: pos.Commit, Writer: "w", WriteID: "1", Time: time.Now(),
		Changes: []manifest.Change{{Op: manifest.Put, File: long}, {Op: manifest.Put, File: good}}}
	pos, err := log.Append(t.Context(), pos, next)
	if err != nil {
		t.Fatal(err)
	}
	c.events <- manifest.Event{}
	c.until("one file fails", func(st syncer.ReplicaStatus) bool { return len(st.Failed) == 1 && r.copied("good") == "" })
	c.becomes(syncer.StatePartial)
	next = manifest.Commit{Epoch: pos.Epoch, Generation: 3, Prev: pos.Commit, Writer: "w", WriteID: "2", Time: time.Now(),
		Changes: []manifest.Change{{Op: manifest.Delete, File: manifest.File{Path: long.Path}}}}
	if _, err := log.Append(t.Context(), pos, next); err != nil {
		t.Fatal(err)
	}
	c.becomes(syncer.StateReady)
}

// A file that keeps its bytes and gets another mode, while a copy of it comes,
// must not share the copy's mode.
func TestCopyOfAFileWhoseModeChanges(t *testing.T) {
	r := newRig(t)
	r.write("a", "the same bytes")
	r.mustSync()
	r.mustCopy()
	r.write("b", "the same bytes")
	if err := os.Chmod(r.disk("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.mustSync()
	r.mustCopy()
	r.checkSame()
}

// A replica's directory that is moved away is not filled where nobody looks.
func TestReplicaDirectoryMovedAway(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.mustSync()
	c := r.follow()
	c.becomes(syncer.StateReady)
	away := r.replica + ".away"
	if err := os.Rename(r.replica, away); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(away)
	r.write("b", "2")
	r.mustSync()
	c.becomes(syncer.StateDegraded)
	if _, err := os.Lstat(filepath.Join(away, "b")); err == nil {
		t.Error("the directory was filled where it is now")
	}
	if err := os.Rename(away, r.replica); err != nil {
		t.Fatal(err)
	}
	c.becomes(syncer.StateReady)
	r.checkSame()
}
