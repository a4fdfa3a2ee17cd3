//go:build linux

package posix

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// treeFiles is how many files a tree has.
const treeFiles = 200

// makeTree fills a directory with files of many sizes and some modes, whose
// times are whole seconds of the past, as archives keep them.
func makeTree(t testing.TB, root string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(4, 2))
	modes := []os.FileMode{0o644, 0o600, 0o755, 0o444}
	for i := range treeFiles {
		path := filepath.Join(root, fmt.Sprint("dir-", i%7), fmt.Sprint("sub ", i%3), fmt.Sprintf("file-%d.txt", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(noise(rnd.IntN(1<<rnd.IntN(18)))), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, modes[i%len(modes)]); err != nil {
			t.Fatal(err)
		}
		then := time.Unix(1_500_000_000+int64(i)*1000, 0)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "empty"), 0o750); err != nil {
		t.Fatal(err)
	}
}

// sameTree reports the first files in which two trees differ: names, modes,
// contents and the times of files.
func sameTree(t testing.TB, want, got string) {
	t.Helper()
	a, b := describe(t, want), describe(t, got)
	wrong := 0
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if a[path] != b[path] && wrong < 10 {
			wrong++
			t.Errorf("%s: %q is %s, want %s", filepath.Base(got), path, short(b[path]), short(a[path]))
		}
		delete(b, path)
	}
	for path := range b {
		t.Errorf("%s: %q should not be there", filepath.Base(got), path)
	}
}

// describe returns all that is compared of each file below root.
func describe(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found[rel] = fi.Mode().String()
		if !fi.Mode().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		found[rel] += fmt.Sprintf(" %d bytes, %d, %x", len(b), fi.ModTime().UnixNano(), b)
		return err
	})
	if err != nil {
		t.Fatalf("walk %s: %v", root, err)
	}
	return found
}
