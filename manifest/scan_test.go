//go:build unix

package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

func mkdir(t testing.TB, names ...string) string {
	t.Helper()
	p := filepath.Join(names...)
	if err := os.MkdirAll(p, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t testing.TB, content string, names ...string) string {
	t.Helper()
	p := filepath.Join(names...)
	mkdir(t, filepath.Dir(p))
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func scan(t testing.TB, root string, x *manifest.Index) *manifest.Scan {
	t.Helper()
	s, err := manifest.ScanTree(t.Context(), root, x)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// note takes what a scan found into the index.
func note(t testing.TB, x *manifest.Index, s *manifest.Scan) {
	t.Helper()
	var entries []manifest.Entry
	for _, d := range s.Changed {
		f := manifest.File{Path: d.Path, Mode: d.Stat.Mode.Perm(), Size: d.Stat.Size, MTime: d.Stat.MTime}
		if d.Stat.Mode.IsDir() {
			f = manifest.File{Path: d.Path, Mode: manifest.DirMode(d.Stat.Mode)}
		}
		entries = append(entries, manifest.Entry{File: f, Stat: d.Stat})
	}
	mustUpdate(t, x, at(1), entries, s.Gone...)
}

func changed(s *manifest.Scan) []manifest.Path {
	var out []manifest.Path
	for _, d := range s.Changed {
		out = append(out, d.Path)
	}
	slices.Sort(out)
	return out
}

func skips(s *manifest.Scan) map[string]manifest.Skip {
	out := map[string]manifest.Skip{}
	for _, k := range s.Skipped {
		out[k.Name] = k.Why
	}
	return out
}

// walked is what filepath.WalkDir finds at root: files and directories, and symlinks apart.
func walked(t testing.TB, root string) (found map[manifest.Path]manifest.Stat, links int) {
	t.Helper()
	found = map[manifest.Path]manifest.Stat{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			links++
			return nil
		}
		fi, err := d.Info()
		rel, _ := filepath.Rel(root, name)
		found[manifest.Path(filepath.ToSlash(rel))] = manifest.StatOf(fi)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, links
}

func TestScanFindsWhatAWalkFinds(t *testing.T) {
	root := goTree(t)
	want, links := walked(t, root)
	x := openIndex(t, indexPath(t))
	defer x.Close()
	s := scan(t, root, x)
	got := map[manifest.Path]manifest.Stat{}
	above := map[manifest.Path]bool{"": true}
	for _, d := range s.Changed {
		if !above[d.Path.Dir()] {
			t.Fatalf("%s comes before its directory", d.Path)
		}
		above[d.Path] = true
		d.Stat.Mode &= fs.ModeDir | fs.ModePerm
		got[d.Path] = d.Stat
	}
	for p, stat := range want {
		stat.Mode &= fs.ModeDir | fs.ModePerm
		if got[p] != stat {
			t.Errorf("%s: got %+v, want %+v", p, got[p], stat)
		}
	}
	if len(got) != len(want) || s.Seen != len(want) || len(s.Skipped) != links || len(s.Gone) != 0 {
		t.Errorf("got %d paths, seen %d, skipped %d, gone %d, want %d and %d links", len(got), s.Seen, len(s.Skipped), len(s.Gone), len(want), links)
	}
	note(t, x, s)
	if s := scan(t, root, x); len(s.Changed) != 0 || len(s.Gone) != 0 || s.Seen != len(want) {
		t.Errorf("again: %d changed, %d gone, %d seen", len(s.Changed), len(s.Gone), s.Seen)
	}
}

func TestScanFindsChanges(t *testing.T) {
	root := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, p := range []string{"same", "d/edited", "d/touched", "d/replaced", "mode", "gone", "dir/gone/x", "becomes/dir", "file"} {
		if err := os.Chtimes(write(t, "12345", root, p), old, old); err != nil {
			t.Fatal(err)
		}
	}
	x := openIndex(t, indexPath(t))
	defer x.Close()
	note(t, x, scan(t, root, x))

	write(t, "54321", root, "d/edited")
	os.Chtimes(filepath.Join(root, "d/edited"), old, old) // as cp -p does
	os.Chtimes(filepath.Join(root, "d/touched"), old, old.Add(time.Second))
	os.Chtimes(write(t, "abcde", root, "temp"), old, old)
	os.Rename(filepath.Join(root, "temp"), filepath.Join(root, "d/replaced"))
	os.Chmod(filepath.Join(root, "mode"), 0o755)
	os.Remove(filepath.Join(root, "gone"))
	os.RemoveAll(filepath.Join(root, "dir/gone"))
	os.RemoveAll(filepath.Join(root, "becomes"))
	write(t, "now a file", root, "becomes")
	os.Remove(filepath.Join(root, "file"))
	write(t, "x", root, "file/inner")
	mkdir(t, root, "new/empty")

	s := scan(t, root, x)
	want := []manifest.Path{"becomes", "d/edited", "d/replaced", "d/touched", "file", "file/inner", "mode", "new", "new/empty"}
	if got := changed(s); !slices.Equal(got, want) {
		t.Errorf("changed: got %q, want %q", got, want)
	}
	if want := []manifest.Path{"becomes/dir", "dir/gone", "dir/gone/x", "gone"}; !slices.Equal(s.Gone, want) {
		t.Errorf("gone: got %q, want %q", s.Gone, want)
	}
}

func TestScanOfARootThatIsGone(t *testing.T) {
	x := openIndex(t, indexPath(t))
	defer x.Close()
	mustUpdate(t, x, at(1), []manifest.Entry{entry("a", "1")})
	for _, root := range []string{filepath.Join(t.TempDir(), "missing"), write(t, "", t.TempDir(), "file")} {
		if s, err := manifest.ScanTree(t.Context(), root, x); err == nil {
			t.Errorf("got %+v, want an error", s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := t.TempDir()
	write(t, "", root, "a/b/c")
	if s, err := manifest.ScanTree(ctx, root, x); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %+v, %v", s, err)
	}
}

// Work that changes under a scan is never read as more than it is.
func TestScanWhileTheTreeChanges(t *testing.T) {
	root := t.TempDir()
	for i := range 300 {
		write(t, "stays", root, fmt.Sprintf("d%02d/f%03d", i%30, i))
	}
	x := openIndex(t, indexPath(t))
	defer x.Close()
	note(t, x, scan(t, root, x))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			p := filepath.Join(root, fmt.Sprintf("d%02d/coming%d/x", i%30, i))
			os.MkdirAll(p, 0o755)
			os.RemoveAll(filepath.Dir(p))
		}
	}()
	for range 50 {
		s := scan(t, root, x)
		if len(s.Gone) != 0 {
			t.Fatalf("gone: %q", s.Gone)
		}
		for _, k := range s.Skipped {
			t.Fatalf("skipped: %+v", k)
		}
	}
	cancel()
	<-done
}

func TestScanSkips(t *testing.T) {
	root := t.TempDir()
	write(t, "x", root, "good")
	write(t, "x", root, ".skyagent/tmp/x")
	write(t, "x", root, "d/.skyagent/x")
	write(t, "x", root, "bad\xffname")
	os.Symlink("good", filepath.Join(root, "link"))
	os.Symlink("/", filepath.Join(root, "d/away"))
	os.Symlink("nowhere", filepath.Join(root, "dangling"))
	want := map[string]manifest.Skip{
		".skyagent": manifest.SkipReserved, "bad\xffname": manifest.SkipName,
		"link": manifest.SkipSymlink, "d/away": manifest.SkipSymlink, "dangling": manifest.SkipSymlink,
	}
	maps.Copy(want, special(t, root))
	x := openIndex(t, indexPath(t))
	defer x.Close()
	s := scan(t, root, x)
	if got := skips(s); !maps.Equal(got, want) {
		t.Errorf("skipped %v, want %v", got, want)
	}
	if want := []manifest.Path{"d", "d/.skyagent", "d/.skyagent/x", "good"}; !slices.Equal(changed(s), want) {
		t.Errorf("changed %q, want %q", changed(s), want)
	}
	odd := 0
	for _, k := range s.Skipped {
		if k.Why.Odd() {
			odd++
		}
	}
	if want := len(want) - 4; odd != want {
		t.Errorf("%d are odd, want %d", odd, want)
	}
}

// A directory that cannot be read hides what is below it, and deletes nothing.
func TestScanUnreadableDirectory(t *testing.T) {
	asNobody(t, func() {
		root := tempDir(t)
		write(t, "x", root, "open/a")
		write(t, "x", root, "shut/a")
		write(t, "x", root, "shut/deep/b")
		write(t, "x", root, "listed/a") // may be listed and not entered
		write(t, "x", root, "listed/deep/b")
		write(t, "x", root, "gone")
		x := openIndex(t, filepath.Join(tempDir(t), "index"))
		defer x.Close()
		note(t, x, scan(t, root, x))
		os.Chmod(filepath.Join(root, "shut"), 0)
		os.Chmod(filepath.Join(root, "listed"), 0o444)
		defer os.Chmod(filepath.Join(root, "shut"), 0o755)
		defer os.Chmod(filepath.Join(root, "listed"), 0o755)
		os.Remove(filepath.Join(root, "gone"))
		s := scan(t, root, x)
		if !slices.Equal(s.Gone, []manifest.Path{"gone"}) {
			t.Errorf("gone: %q", s.Gone)
		}
		if got := skips(s); got["shut"] != manifest.SkipUnreadable || got["listed/a"] != manifest.SkipUnreadable && got["listed"] != manifest.SkipUnreadable {
			t.Errorf("skipped: %v", got)
		}
		for _, k := range s.Skipped {
			if !errors.Is(k.Err, fs.ErrPermission) || strings.Contains(k.Err.Error(), root) {
				t.Errorf("%s: %v", k.Name, k.Err)
			}
		}
		os.Chmod(root, 0)
		defer os.Chmod(root, 0o755)
		if s, err := manifest.ScanTree(t.Context(), root, x); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("root: got %+v, %v", s, err)
		}
	})
}

// tempDir is t.TempDir where another user may work too.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyagent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
