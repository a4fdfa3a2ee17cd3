package syncer_test

import (
	"testing"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
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
	w := r.watch(func(o *syncer.SourceOptions) {
		o.Tree = manifest.OneDir(o.Root).Ignoring(ignore.New(ignore.Options{}))
	})
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
