package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

const notesAt = ".skyagent/writes/"

// someWrites has every field set.
func someWrites() []manifest.Writes {
	c := aCommit()
	w := manifest.Writes{Writer: "0123456789abcdef0123", Session: "18a0000000000000deadbeef", Seq: 7,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	for _, ch := range c.Changes {
		w.Changes = append(w.Changes, manifest.Write{Change: ch, Prev: "r0"})
	}
	other := w
	other.Seq, other.Changes = 8, []manifest.Write{{Change: manifest.Change{Op: manifest.Put, File: folder("made")}}}
	return []manifest.Writes{w, other}
}

func TestGoldenNote(t *testing.T) {
	golden(t, "note", manifest.EncodeNote(someWrites()), func(b []byte) (any, error) { return manifest.DecodeNote(b) })
}

func TestNoteSkipsWhatItDoesNotKnow(t *testing.T) {
	msg := append(opened(t, manifest.EncodeNote(someWrites())), strange()...)
	got, err := manifest.DecodeNote(sealed('W', 1, msg))
	if err != nil || !reflect.DeepEqual(got, someWrites()) {
		t.Errorf("got %+v, %v", got, err)
	}
	var version *manifest.VersionError
	if _, err := manifest.DecodeNote(sealed('W', 2, msg)); !errors.As(err, &version) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzDecodeNote(f *testing.F) {
	f.Add(opened(f, manifest.EncodeNote(someWrites())))
	f.Add(strange())
	f.Fuzz(func(t *testing.T, msg []byte) {
		list, err := manifest.DecodeNote(sealed('W', 1, msg))
		if err != nil {
			if !errors.Is(err, manifest.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for _, w := range list {
			for _, c := range w.Changes {
				checkSane(t, c.File)
			}
		}
		again, err := manifest.DecodeNote(manifest.EncodeNote(list))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("got %+v, %v\nwant %+v", again, err, list)
		}
	})
}

func wrote(path manifest.Path, prev, rev string) manifest.Write {
	f := file(path, rev)
	f.Rev = rev
	return manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: prev}
}

func removed(path manifest.Path, prev string) manifest.Write {
	return manifest.Write{Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: path}}, Prev: prev}
}

// A noter writes notes as one mount.
type noter struct {
	t     testing.TB
	b     *bucket
	notes *manifest.Notes
	seq   uint64
}

func newNoter(t testing.TB) *noter {
	b := newBucket()
	return &noter{t: t, b: b, notes: manifest.NewNotes(b)}
}

func (n *noter) add(changes ...manifest.Write) {
	n.t.Helper()
	n.seq++
	if err := n.notes.Add(n.t.Context(), manifest.Writes{Writer: "w1", Session: "s1", Seq: n.seq, Changes: changes}); err != nil {
		n.t.Fatal(err)
	}
}

// at puts a note as it was written d ago, without a note's usual way.
func (n *noter) at(d time.Duration, changes ...manifest.Write) {
	n.seq++
	when := time.Now().Add(-d).UTC()
	w := manifest.Writes{Writer: "w1", Session: fmt.Sprint("s", n.seq), Seq: 1, Time: when, Changes: changes}
	n.b.overwrite(fmt.Sprintf("%s%020d-w1-%d", notesAt, when.UnixNano(), n.seq), string(manifest.EncodeNote([]manifest.Writes{w})))
}

// since returns what follows pos, "PATH@REV" each, or "PATH gone".
func (n *noter) since(pos manifest.NotesPos) (string, manifest.NotesPos) {
	n.t.Helper()
	list, next, err := n.notes.Since(n.t.Context(), pos)
	if err != nil {
		n.t.Fatal(err)
	}
	return facts(list), next
}

func facts(list []manifest.Writes) string {
	var out []string
	for _, w := range list {
		for _, c := range w.Changes {
			if c.Op == manifest.Delete {
				out = append(out, string(c.Path)+" gone")
			} else {
				out = append(out, string(c.Path)+"@"+c.Rev)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestNotesLeadOn(t *testing.T) {
	n := newNoter(t)
	n.add(wrote("a", "", "r1"), manifest.Write{Change: manifest.Change{Op: manifest.Put, File: folder("d")}})
	got, pos := n.since(manifest.NotesPos{})
	if got != "a@r1 d@" {
		t.Errorf("first: %q", got)
	}
	n.add(wrote("a", "r1", "r2"))
	n.at(30*time.Second, removed("late", "r0")) // by a clock that is behind
	if got, pos = n.since(pos); got != "late gone a@r2" {
		t.Errorf("then: %q", got)
	}
	before := n.b.calls["read"]
	if got, _ = n.since(pos); got != "" || n.b.calls["read"] != before {
		t.Errorf("nothing is new: %q, %d reads", got, n.b.calls["read"]-before)
	}
}

// A writer whose clock is far ahead hides nobody's notes.
func TestNotesFromTheFuture(t *testing.T) {
	n := newNoter(t)
	n.at(-time.Hour, wrote("future", "", "r1"))
	got, pos := n.since(manifest.NotesPos{})
	n.add(wrote("a", "", "r1"))
	then, pos := n.since(pos)
	none, _ := n.since(pos)
	if got != "future@r1" || then != "a@r1" || none != "" {
		t.Errorf("got %q, %q, %q", got, then, none)
	}
}

func TestNoteWhoseAnswerWasLost(t *testing.T) {
	n := newNoter(t)
	n.b.lost = 1
	w := manifest.Writes{Writer: "w1", Session: "s1", Seq: 1, Changes: []manifest.Write{wrote("a", "", "r1")}}
	if err := n.notes.Add(t.Context(), w); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	if err := n.notes.Add(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if got, _ := n.since(manifest.NotesPos{}); got != "a@r1 a@r1" {
		t.Errorf("got %q", got) // twice is allowed, never is not
	}
}

func TestDamagedNoteIsPassedOver(t *testing.T) {
	n := newNoter(t)
	n.at(time.Minute, wrote("a", "", "r1"))
	n.b.overwrite(fmt.Sprintf("%s%020d-w1-x", notesAt, time.Now().UnixNano()), "rubbish")
	n.b.overwrite(notesAt+"no-note", "rubbish")
	n.at(0, wrote("b", "", "r1"))
	list, pos, err := n.notes.Since(t.Context(), manifest.NotesPos{})
	if !errors.Is(err, manifest.ErrCorrupt) || facts(list) != "a@r1 b@r1" {
		t.Errorf("got %q, %v", facts(list), err)
	}
	if got, _ := n.since(pos); got != "" {
		t.Errorf("then %q", got)
	}
}

// old writes notes that are worth merging, of two paths and more.
func (n *noter) old() {
	n.at(9*24*time.Hour, removed("long gone", "r1"))
	n.at(24*time.Hour, removed("gone", "r1"))
	n.at(time.Hour+time.Second, wrote("skewed", "r1", "r2")) // replaced r1, by another clock
	n.at(time.Hour, wrote("skewed", "", "r1"))
	for i := range 20 {
		n.at(time.Hour-time.Duration(i)*time.Second, wrote("a", fmt.Sprint("r", i), fmt.Sprint("r", i+1)))
	}
}

func TestCompactKeepsTheLastOfEveryPath(t *testing.T) {
	n := newNoter(t)
	n.old()
	_, seen := n.since(manifest.NotesPos{})
	n.at(5*time.Minute, wrote("young", "", "r1"))
	if err := n.notes.Compact(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(n.b.objects) != 2 {
		t.Errorf("%d notes are left", len(n.b.objects))
	}
	want := "gone gone skewed@r2 a@r20 young@r1"
	if got, _ := n.since(manifest.NotesPos{}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, _ := n.since(seen); !strings.HasSuffix(got, "young@r1") {
		t.Errorf("who had seen the old ones reads %q", got)
	}
	half := manifest.NotesPos{Newest: time.Now().Add(-time.Hour + 10*time.Second).UnixNano()}
	if got, _ := n.since(half); !strings.Contains(got, "a@r20") {
		t.Errorf("who had seen half of them reads %q", got)
	}
	before := n.b.calls["create"]
	if err := n.notes.Compact(t.Context(), time.Now()); err != nil || n.b.calls["create"] != before {
		t.Errorf("again: %v", err)
	}
}

// A crash between the merged note and the removal leaves both; the next merge
// makes one of them.
func TestCompactAfterCrash(t *testing.T) {
	n := newNoter(t)
	n.old()
	stop := &failing{bucket: n.b, fail: true}
	if err := manifest.NewNotes(stop).Compact(t.Context(), time.Now()); err == nil {
		t.Fatal("the crash did not happen")
	}
	if err := n.notes.Compact(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, _ := n.since(manifest.NotesPos{}); got != "gone gone skewed@r2 a@r20" || len(n.b.objects) != 1 {
		t.Errorf("got %q in %d notes", got, len(n.b.objects))
	}
}

// A failing bucket does not remove.
type failing struct {
	*bucket
	fail bool
}

func (f *failing) Remove(ctx context.Context, keys ...string) error {
	if f.fail {
		return errors.New("killed")
	}
	return f.bucket.Remove(ctx, keys...)
}

// Several compact and read at a time; nobody misses a fact.
func TestCompactInParallel(t *testing.T) {
	n := newNoter(t)
	n.old()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := n.notes.Compact(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			list, _, err := n.notes.Since(t.Context(), manifest.NotesPos{})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			for _, want := range []string{"gone gone", "skewed@r2", "a@r20"} {
				if err == nil && !strings.Contains(facts(list), want) {
					t.Errorf("a reader misses %s: %q", want, facts(list))
				}
			}
		})
	}
	group.Wait()
}
