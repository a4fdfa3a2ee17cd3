//go:build unix

package manifest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

func TestTreeDisk(t *testing.T) {
	one := manifest.OneDir("/data")
	several := manifest.TreeOf(manifest.Place{Dir: "/x/datasets", At: "datasets"}, manifest.Place{Dir: "/mydir", At: "f.txt", Only: true})
	for _, tc := range []struct {
		tree manifest.Tree
		path manifest.Path
		want string
	}{
		{one, "", "/data"}, {one, "a/b", "/data/a/b"},
		{several, "datasets", "/x/datasets"}, {several, "datasets/a/b", "/x/datasets/a/b"},
		{several, "f.txt", "/mydir/f.txt"}, {several, "other", ""}, {several, "datasets2/a", ""}, {several, "", ""},
	} {
		if got := tc.tree.Disk(tc.path); filepath.ToSlash(got) != tc.want {
			t.Errorf("%s: %q is at %q, want %q", tc.tree, tc.path, got, tc.want)
		}
	}
	if got := several.String(); got != "/x/datasets, /mydir/f.txt" {
		t.Errorf("name %q", got)
	}
}

func TestScanOfSeveralPlaces(t *testing.T) {
	dir := t.TempDir()
	write(t, "a", dir, "x", "datasets", "sub", "a")
	write(t, "temp", dir, "x", "datasets", manifest.Reserved, "temp")
	write(t, "f", dir, "mydir", "f.txt")
	write(t, "other", dir, "mydir", "other")
	if err := os.Symlink("f.txt", filepath.Join(dir, "mydir", "link")); err != nil {
		t.Fatal(err)
	}
	tree := manifest.TreeOf(manifest.Place{Dir: filepath.Join(dir, "x", "datasets"), At: "datasets"},
		manifest.Place{Dir: filepath.Join(dir, "mydir"), At: "f.txt", Only: true},
		manifest.Place{Dir: filepath.Join(dir, "mydir"), At: "link", Only: true})
	x := openIndex(t, filepath.Join(t.TempDir(), "index"))
	scanned := func() *manifest.Scan {
		t.Helper()
		s, err := tree.Scan(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := scanned()
	if got, want := changed(s), []manifest.Path{"datasets", "datasets/sub", "datasets/sub/a", "f.txt"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if skips(s)["link"] != manifest.SkipSymlink || skips(s)["datasets/"+manifest.Reserved] != manifest.SkipReserved {
		t.Errorf("skipped %v", s.Skipped)
	}
	note(t, x, s)
	if err := os.Remove(filepath.Join(dir, "mydir", "f.txt")); err != nil {
		t.Fatal(err)
	}
	if s := scanned(); len(s.Changed) > 0 || !slices.Equal(s.Gone, []manifest.Path{"f.txt"}) {
		t.Errorf("after a deletion: changed %v, gone %v", s.Changed, s.Gone)
	}
	if err := os.RemoveAll(filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	if s, err := tree.Scan(t.Context(), x); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there was scanned: %+v, %v", s, err)
	}
}
