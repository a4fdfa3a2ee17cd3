package ignore

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAsGit has git judge trees and rules that chance made: what it would add is
// what is not ignored.
func TestAsGit(t *testing.T) {
	hermetic(t)
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	seed := rand.Uint64()
	for i := range rounds {
		t.Run(fmt.Sprintf("%d-%d", seed, i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			top := repository(t)
			randomTree(t, r, top, 0)
			randomRules(t, r, top)
			got, want := kept(top, New(Options{})), gitKeeps(t, top)
			for _, name := range got {
				if !slices.Contains(want, name) {
					t.Errorf("%q is kept, git ignores it", name)
				}
			}
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%q is ignored, git keeps it", name)
				}
			}
			if t.Failed() {
				showRules(t, top)
			}
		})
	}
}

// words are what names and patterns are made of, so that they meet.
var words = []string{"a", "b", "ab", "a.log", "b.log", "[x]", "x", "-", "]", "A", "build", "q?", "a b", "é", "\\"}

func randomTree(t *testing.T, r *rand.Rand, dir string, depth int) {
	for _, w := range words {
		path := filepath.Join(dir, w)
		switch n := r.IntN(10); {
		case n < 3:
			write(t, path, "")
		case n < 5 && depth < 2:
			mkdir(t, path)
			randomTree(t, r, path, depth+1)
		}
	}
}

func randomRules(t *testing.T, r *rand.Rand, top string) {
	filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if e.Name() == gitDir {
			return fs.SkipDir
		}
		if path == top || r.IntN(4) == 0 {
			write(t, filepath.Join(path, gitFile), randomLines(r))
		}
		return nil
	})
	if r.IntN(3) == 0 {
		write(t, filepath.Join(top, gitDir, "info", "exclude"), randomLines(r))
	}
	if r.IntN(3) == 0 {
		write(t, defaultExcludes(), randomLines(r))
	} else {
		os.Remove(defaultExcludes())
	}
}

func showRules(t *testing.T, top string) {
	filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if e.Name() == gitFile || e.Name() == "exclude" {
			content, _ := os.ReadFile(path)
			t.Logf("%s: %q", path[len(top)+1:], content)
		}
		return err
	})
	content, _ := os.ReadFile(defaultExcludes())
	t.Logf("global: %q", content)
}

func randomLines(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString(randomPattern(r))
		b.WriteString(pick(r, "\n", "\n", "\n", "\r\n", " \n", "\\ \n"))
	}
	return b.String()
}

func randomPattern(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(r, "", "", "", "!", "/", "!/", "**/", "#", "\\!"))
	for range 1 + r.IntN(3) {
		switch r.IntN(8) {
		case 0, 1, 2:
			b.WriteString(words[r.IntN(len(words))])
		case 3:
			b.WriteString(pick(r, "*", "*", "**", "***", "?", "*.log", "a*"))
		case 4:
			b.WriteString(pick(r, "[a-b]", "[!a]", "[^b]", "[]x]", "[[:alpha:]]", "[[:x:]]", "[a", "[\\]]", "[b-a]", "[a-", "[!/]", "[[:lower:]-b]", "[--a]", "[[:]"))
		case 5:
			b.WriteString(pick(r, "\\*", "\\[x]", "\\a", "\\", "\\/"))
		case 6, 7:
			b.WriteString(pick(r, "/", "/", "/**/", "/*/", "**/", "/**"))
		}
	}
	b.WriteString(pick(r, "", "", "", "/", "/**", "*"))
	return b.String()
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// kept walks a source and returns the files that are not ignored, sorted.
func kept(root string, rules *Rules) []string {
	all := []string{}
	var walk func(d Dir, rel string)
	walk = func(d Dir, rel string) {
		entries, _ := os.ReadDir(filepath.Join(root, rel))
		for _, e := range entries {
			path := filepath.Join(rel, e.Name())
			switch {
			case d.Match(e.Name(), e.IsDir()) != nil:
			case e.IsDir():
				walk(d.Enter(e.Name()), path)
			default:
				all = append(all, path)
			}
		}
	}
	walk(rules.Root(root), "")
	slices.Sort(all)
	return all
}

// gitKeeps returns the files that git tracks or would add, sorted.
func gitKeeps(t *testing.T, top string) []string {
	all := map[string]bool{}
	for name := range strings.SplitSeq(run(t, top, "ls-files", "-z", "--others", "--cached", "--exclude-standard"), "\x00") {
		all[name] = true
	}
	delete(all, "")
	return slices.Sorted(maps.Keys(all))
}

// hermetic keeps the machine's configuration of git out of a test.
func hermetic(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	mkdir(t, filepath.Dir(defaultExcludes()))
}

func repository(t *testing.T) string {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	run(t, top, "init", "-q", "--template=")
	mkdir(t, filepath.Join(top, gitDir, "info"))
	return top
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %q: %v", args, err)
	}
	return string(out)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
