package syncer_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// TestIgnored shows that what rules ignore is not part of a source: it is not
// pushed, by a scan or by name, goes from the bucket when a rule names it, and
// comes when none does any more.
func TestIgnored(t *testing.T) {
	r, _ := judged(t)
	there := func(key string) bool { return r.object(key) != "(none)" }
	for _, name := range []string{"a", "b", "c", "d", "e.log", "build/x", ".git/config"} {
		r.write(name, name)
	}
	r.write(".skyignore", "build/\n")
	rules := ignore.New(ignore.Options{})
	w := r.watch(func(o *syncer.SourceOptions) { o.Tree = manifest.OneDir(o.Root).Ignoring(rules) })
	w.becomes(syncer.StateReady)
	if there("build/x") || there(".git/config") || !there("e.log") || !there("a") {
		t.Error("not what the rules leave")
	}
	r.write("build/y", "y")
	r.write("f", "f")
	w.tell("build/y", "f")
	eventually(t, "f is there", func() bool { return there("f") })
	if there("build/y") {
		t.Error("pushed what is ignored")
	}
	r.write(".skyignore", "*.log\n")
	w.tell(".skyignore")
	rules.Settle(0)
	w.feed <- manifest.Batch{Rescan: "rules"}
	eventually(t, "the other rules hold", func() bool {
		return there("build/x") && there("build/y") && !there("e.log")
	})
	if st := w.Status(); st.Ignored != 2 {
		t.Errorf("%d ignored, want .git and e.log", st.Ignored)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}

// A gate holds the upload of one object back until it is open.
type gate struct {
	objstore.Store
	key         string
	there, open chan struct{}
}

func (g *gate) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	if key == g.key {
		close(g.there)
		<-g.open
	}
	return g.Store.Put(ctx, key, body, size, opts)
}

// TestIgnoredWhileSent shows that what comes to be ignored while it is on its way
// does not stay.
func TestIgnoredWhileSent(t *testing.T) {
	r, _ := judged(t)
	g := &gate{Store: r.store, key: "a.dat", there: make(chan struct{}), open: make(chan struct{})}
	r.store = g
	r.write("a.dat", "a")
	r.write("b", "b")
	rules := ignore.New(ignore.Options{})
	w := r.watch(func(o *syncer.SourceOptions) { o.Tree = manifest.OneDir(o.Root).Ignoring(rules) })
	<-g.there
	r.write(".skyignore", "*.dat\n")
	rules.Settle(0)
	w.feed <- manifest.Batch{Rescan: "rules"}
	w.until("the scan is done", func(st syncer.SourceStatus) bool { return st.Ignored == 1 })
	close(g.open)
	w.becomes(syncer.StateReady)
	eventually(t, "it is gone", func() bool { return r.object("a.dat") == "(none)" && r.object("b") == "b" })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}

// TestRuleTakenBack shows that a rule that ignored everything, and was held back,
// does no harm once it is gone.
func TestRuleTakenBack(t *testing.T) {
	r, _ := judged(t)
	for i := range 150 {
		r.write(fmt.Sprintf("f%d", i), "x")
	}
	rules := ignore.New(ignore.Options{})
	w := r.watch(func(o *syncer.SourceOptions) { o.Tree = manifest.OneDir(o.Root).Ignoring(rules) })
	w.becomes(syncer.StateReady)
	rescan := func(then syncer.State) {
		rules.Settle(0)
		w.feed <- manifest.Batch{Rescan: "rules"}
		w.becomes(then)
	}
	eventually(t, "no file is so new that every scan names it", func() bool {
		before := w.Status()
		w.feed <- manifest.Batch{Rescan: "interval"}
		w.until("a scan is done", func(st syncer.SourceStatus) bool { return st.Scans > before.Scans && st.Dirty == 0 })
		return w.Status().HashedBytes == before.HashedBytes
	})
	r.write(".skyignore", "*\n")
	rescan(syncer.StateGuarded)
	if err := os.Remove(r.disk(".skyignore")); err != nil {
		t.Fatal(err)
	}
	rescan(syncer.StateReady)
	if r.object("f0") != "x" {
		t.Error("a file is gone")
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}
