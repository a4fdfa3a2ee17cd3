//go:build unix

package manifest_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// TestIgnored shows that a scan leaves out what each place's rules ignore, counts
// it, and takes what it knew of it for gone; and that a Judge agrees with it.
func TestIgnored(t *testing.T) {
	dir := t.TempDir()
	write(t, "*.log\nbuild/\n", dir, "one", ".skyignore")
	for _, name := range []string{"one/a", "one/a.log", "one/build/x/y", "one/sub/b.log", "one/sub/c", "two/a.log", "two/.git/config", "three.log"} {
		write(t, name, dir, name)
	}
	all := manifest.TreeOf(
		manifest.Place{Dir: filepath.Join(dir, "one"), At: "one"},
		manifest.Place{Dir: filepath.Join(dir, "two"), At: "two"},
		manifest.Place{Dir: dir, At: "three.log", Only: true})
	tree := all.Ignoring(ignore.New(ignore.Options{}))
	x := openIndex(t, filepath.Join(t.TempDir(), "index"))
	s, err := all.Scan(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	note(t, x, s)

	s, err = tree.Scan(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	gone := []manifest.Path{"one/a.log", "one/build", "one/build/x", "one/build/x/y", "one/sub/b.log", "two/.git", "two/.git/config"}
	slices.Sort(s.Gone)
	if !slices.Equal(s.Gone, gone) {
		t.Errorf("gone %q, want %q", s.Gone, gone)
	}
	if s.Ignored != 4 || len(s.Skipped) != 0 || s.Seen != 8 {
		t.Errorf("%d ignored, %v skipped, %d seen; want 4, none, 8", s.Ignored, s.Skipped, s.Seen)
	}
	judge := tree.Judge()
	for f := range x.Files().All() {
		if ignored := judge.Ignores(f.Path, f.IsDir()) != nil; ignored != slices.Contains(gone, f.Path) {
			t.Errorf("%s: ignored is %v", f.Path, ignored)
		}
	}
}
