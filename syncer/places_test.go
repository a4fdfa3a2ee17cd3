package syncer_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// A source of several places: one that vanishes takes nothing along, and what
// is there goes on when it is back.
func TestSeveralPlaces(t *testing.T) {
	r, _ := judged(t)
	gone := func(key string) bool { return r.object(key) == "(none)" }
	r.write("x/datasets/a", "a")
	r.write("mydir/f.txt", "f")
	r.write("mydir/other", "other")
	tree := manifest.TreeOf(manifest.Place{Dir: r.disk("x/datasets"), At: "datasets"},
		manifest.Place{Dir: r.disk("mydir"), At: "f.txt", Only: true})
	w := r.watch(func(o *syncer.SourceOptions) { o.Tree = tree })
	w.becomes(syncer.StateReady)
	if gone("datasets/a") || gone("f.txt") || !gone("other") || !gone("x/datasets/a") {
		t.Error("not what the places hold")
	}
	r.write("x/datasets/b", "b")
	r.write("mydir/f.txt", "another")
	w.tell("datasets/b", "f.txt")
	w.until("both are committed", func(st syncer.SourceStatus) bool { return st.Changes >= 5 && st.Dirty == 0 })
	if gone("datasets/b") {
		t.Error("a new file of a place is missing")
	}
	if err := os.Rename(r.disk("x"), r.disk("away")); err != nil {
		t.Fatal(err)
	}
	w.tell("datasets/a", "datasets/b")
	w.becomes(syncer.StateGuarded)
	if gone("datasets/a") {
		t.Error("a place that went away was taken for emptied")
	}
	if err := os.Rename(r.disk("away"), r.disk("x")); err != nil {
		t.Fatal(err)
	}
	w.becomes(syncer.StateReady)
	if err := os.Remove(filepath.Join(r.disk("mydir"), "f.txt")); err != nil {
		t.Fatal(err)
	}
	w.tell("f.txt")
	eventually(t, "the single file is gone", func() bool { return gone("f.txt") })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}
