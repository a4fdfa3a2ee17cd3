package manifest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

func openIndex(t testing.TB, path string) *manifest.Index {
	t.Helper()
	x, err := manifest.OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func indexPath(t testing.TB) string { return filepath.Join(t.TempDir(), "state", "index") }

func at(g uint64) manifest.Position {
	return manifest.Position{Epoch: "E", Generation: g, Commit: manifest.Sum([]byte{byte(g)}), Rev: fmt.Sprint("r", g)}
}

func entry(p manifest.Path, content string) manifest.Entry {
	f := file(p, content)
	return manifest.Entry{File: f, Stat: manifest.Stat{Ino: 7, Size: f.Size, MTime: f.MTime, CTime: f.MTime + 1, Mode: f.Mode}}
}

func mustUpdate(t testing.TB, x *manifest.Index, pos manifest.Position, entries []manifest.Entry, gone ...manifest.Path) {
	t.Helper()
	if err := x.Update(pos, entries, gone); err != nil {
		t.Fatal(err)
	}
}

// shown is all that an index holds, as text.
func shown(x *manifest.Index) string {
	s := fmt.Sprintf("%+v\n", x.Position())
	for e := range x.Entries() {
		s += fmt.Sprintf("%+v\n", e)
	}
	return s
}

func TestIndexReopens(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	if x.Position() != (manifest.Position{}) || x.Files().Len() != 0 {
		t.Fatalf("a new index holds %s", shown(x))
	}
	large := aCommit().Changes[1].File
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1"), entry("b", "1"), {File: folder("d")}, {File: large}})
	mustUpdate(t, x, at(2), []manifest.Entry{entry("a", "2")}, "b", "never there")
	want := shown(x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	y := openIndex(t, path)
	if got := shown(y); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if y.Stat("a") != entry("a", "2").Stat || y.Stat("b") != (manifest.Stat{}) {
		t.Errorf("stats are %+v, %+v", y.Stat("a"), y.Stat("b"))
	}
	if err := y.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := y.Close(); err != nil {
		t.Fatal(err)
	}
	if z := openIndex(t, path); z.Position() != (manifest.Position{}) || z.Files().Len() != 0 {
		t.Errorf("after Reset it holds %s", shown(z))
	}
}

// Wherever a crash cuts the last frame, the steps before it are there, and the
// journal goes on.
func TestIndexTornTail(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1")})
	before, want := size(t, path), shown(x)
	mustUpdate(t, x, at(2), []manifest.Entry{entry("b", "2")}, "a")
	whole, err := os.ReadFile(path) // not closed: the process was killed
	if err != nil {
		t.Fatal(err)
	}
	for n := before; n < int64(len(whole)); n++ {
		torn := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(torn, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		y := openIndex(t, torn)
		if got := shown(y); got != want {
			t.Fatalf("cut at %d of %d: got %s\nwant %s", n, len(whole), got, want)
		}
		mustUpdate(t, y, at(2), []manifest.Entry{entry("c", "3")})
		after := shown(y)
		if err := y.Close(); err != nil {
			t.Fatal(err)
		}
		z := openIndex(t, torn)
		if got := shown(z); got != after {
			t.Fatalf("cut at %d of %d, gone on: got %s\nwant %s", n, len(whole), got, after)
		}
		z.Close()
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// A flipped bit is ErrCorrupt, or, where it makes a frame look cut short, an
// earlier state; never another one.
func TestIndexCorruption(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	states := []string{shown(x)}
	for g := range uint64(3) {
		mustUpdate(t, x, at(g+1), []manifest.Entry{entry(manifest.Path(fmt.Sprint("f", g)), "1")})
		states = append(states, shown(x))
	}
	x.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	corrupt := 0
	for i := range whole {
		whole[i] ^= 4
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		y, err := manifest.OpenIndex(path)
		switch {
		case errors.Is(err, manifest.ErrCorrupt):
			corrupt++
			if size(t, path) != int64(len(whole)) {
				t.Fatalf("byte %d: the damaged file was changed", i)
			}
		case err != nil:
			t.Fatalf("byte %d: %v", i, err)
		case !slices.Contains(states, shown(y)):
			t.Fatalf("byte %d: got %s", i, shown(y))
		default:
			y.Close()
		}
		whole[i] ^= 4
	}
	if corrupt < len(whole)*3/4 {
		t.Errorf("%d of %d flipped bytes were noticed", corrupt, len(whole))
	}
}

func TestIndexOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	if err := os.WriteFile(path, []byte("not an index"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.OpenIndex(path); !errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestIndexCompacts(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	var entries []manifest.Entry
	for i := range 100 {
		entries = append(entries, entry(manifest.Path(fmt.Sprintf("f%03d", i)), "1"))
	}
	largest := int64(0)
	rounds := 3 * manifest.CompactFloor / len(entries)
	for g := range rounds {
		mustUpdate(t, x, at(uint64(g+1)), entries)
		largest = max(largest, size(t, path))
	}
	if now := size(t, path); now == largest {
		t.Errorf("after %d rounds the journal has %d bytes, as many as ever", rounds, now)
	}
	want := shown(x)
	x.Close()
	y := openIndex(t, path)
	defer y.Close()
	if got := shown(y); got != want {
		t.Error("compaction changed what the index holds")
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestIndexOfAnotherBoot(t *testing.T) {
	for _, c := range []struct {
		name        string
		close, same bool
		trusted     bool
	}{
		{"killed", false, true, true},
		{"closed, rebooted", true, false, true},
		{"system crashed", false, false, false},
	} {
		path := indexPath(t)
		x := openIndex(t, path)
		mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1")})
		x.Close()
		x = openIndex(t, path)
		mustUpdate(t, x, at(2), []manifest.Entry{entry("b", "1")})
		if c.close {
			x.Close()
		}
		restore := func() {}
		if !c.same {
			restore = manifest.Boot("another")
		}
		y := openIndex(t, path)
		restore()
		if y.Position() != at(2) || y.Files().Len() != 2 {
			t.Errorf("%s: got %s", c.name, shown(y))
		}
		for _, p := range []manifest.Path{"a", "b"} {
			if got := y.Stat(p) != (manifest.Stat{}); got != c.trusted {
				t.Errorf("%s: the stat of %s is known: %v, want %v", c.name, p, got, c.trusted)
			}
		}
		y.Close()
	}
}

// A session that only reads does not mark the index as in use.
func TestIndexReadOnlySessionLeavesNoMark(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1")})
	x.Close()
	before, _ := os.ReadFile(path)
	openIndex(t, path) // and killed
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("opening changed the file")
	}
}

// A step that the disk refused is not lost when a later one succeeds: the two
// stand on each other.
func TestIndexAfterFullDisk(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1"), entry("b", "1")})
	restore := manifest.Break(x)
	if err := x.Update(at(2), []manifest.Entry{entry("c", "2")}, []manifest.Path{"a"}); err == nil {
		t.Fatal("Update succeeded without a file")
	}
	if x.Position() != at(2) {
		t.Error("memory did not move on")
	}
	restore()
	mustUpdate(t, x, at(3), []manifest.Entry{entry("d", "3")})
	want := shown(x)
	y := openIndex(t, path) // killed
	if got := shown(y); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	y.Close()
}

// The same when the first step of a session fails, with its mark.
func TestIndexAfterFullDiskAtFirst(t *testing.T) {
	path := indexPath(t)
	x := openIndex(t, path)
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1")})
	x.Close()
	x = openIndex(t, path)
	restore := manifest.Break(x)
	if err := x.Update(at(2), nil, nil); err == nil {
		t.Fatal("Update succeeded without a file")
	}
	restore()
	mustUpdate(t, x, at(3), nil)
	defer manifest.Boot("another")()
	y := openIndex(t, path)
	defer y.Close()
	if y.Stat("a") != (manifest.Stat{}) {
		t.Error("a stat of a session that crashed with the system is trusted")
	}
}

func TestIndexSnapshot(t *testing.T) {
	x := openIndex(t, indexPath(t))
	defer x.Close()
	var entries []manifest.Entry
	for i := range 3000 {
		entries = append(entries, entry(manifest.Path(fmt.Sprintf("f%05d", i)), "1"))
	}
	mustUpdate(t, x, at(1), entries)
	want := shown(x)
	var group sync.WaitGroup
	for range 2 {
		s := x.Snapshot()
		group.Go(func() {
			for range 3 {
				if shown(s) != want {
					t.Error("a snapshot changed")
				}
				if s.Stat("f00007") != entries[7].Stat {
					t.Error("a snapshot lost a stat")
				}
			}
		})
		for i := range 300 {
			mustUpdate(t, x, at(2), []manifest.Entry{entry(entries[i*7].Path, "2")}, entries[i*9+1].Path)
		}
		for i := range 300 { // as it was, for the second round
			mustUpdate(t, x, at(1), []manifest.Entry{entries[i*7], entries[i*9+1]})
		}
	}
	group.Wait()
}

func FuzzIndex(f *testing.F) {
	path := indexPath(f)
	x := openIndex(f, path)
	mustUpdate(f, x, at(1), []manifest.Entry{entry("a", "1"), entry("b", "1")})
	mustUpdate(f, x, at(2), nil, "a")
	x.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[5:], false)
	f.Add(whole[5+8:], true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		if framed { // past the checksum
			b = manifest.Frame(nil, b)
		}
		path := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(path, append(whole[:5:5], b...), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := manifest.OpenIndex(path)
		if err != nil {
			if !errors.Is(err, manifest.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for e := range x.Entries() {
			checkSane(t, e.File)
		}
		mustUpdate(t, x, at(9), []manifest.Entry{entry("new", "1")})
		want := shown(x)
		x.Close()
		y := openIndex(t, path)
		if got := shown(y); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
		y.Close()
	})
}
