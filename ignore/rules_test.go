package ignore

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files, by name, below a new directory.
func tree(t *testing.T, root string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		write(t, filepath.Join(root, name), content)
	}
	return root
}

func plain(t *testing.T) string { return t.TempDir() }

// TestRules shows what is kept of sources that are, have or are part of work
// trees, and of others.
func TestRules(t *testing.T) {
	hermetic(t)
	for _, c := range []struct {
		name  string
		in    func(*testing.T) string
		files map[string]string
		keep  []string
	}{
		{"nobody's rules outside of a work tree", plain,
			map[string]string{".gitignore": "a", "a": "", "b": ""},
			[]string{".gitignore", "a", "b"}},
		{"git's in one", repository,
			map[string]string{".gitignore": "a", "a": "", "b": "", "sub/a": "", "sub/.gitignore": "!a\nb", "sub/b": ""},
			[]string{".gitignore", "b", "sub/.gitignore", "sub/a"}},
		{".skyignore in place of git's", repository,
			map[string]string{".gitignore": "a", ".skyignore": "b", "a": "", "b": "", "sub/.gitignore": "*", "sub/c": ""},
			[]string{".gitignore", ".skyignore", "a", "sub/.gitignore", "sub/c"}},
		{"an empty .skyignore ignores nothing", repository,
			map[string]string{".gitignore": "a", ".skyignore": "", "a": ""},
			[]string{".gitignore", ".skyignore", "a"}},
		{"a .skyignore below the root counts when the root has one", plain,
			map[string]string{".skyignore": "*.b\n!keep.b", "sub/.skyignore": "!x.b\n/c", "sub/x.b": "", "sub/c": "", "sub/d/c": "", "y.b": "", "keep.b": "", ".h.b": ""},
			[]string{".skyignore", "keep.b", "sub/.skyignore", "sub/d/c", "sub/x.b"}},
		{"a .skyignore below the root alone does not", plain,
			map[string]string{"sub/.skyignore": "*", "sub/a": ""},
			[]string{"sub/.skyignore", "sub/a"}},
		{"nothing that is re-included brings .git back", plain,
			map[string]string{".skyignore": "*\n!*/\n!*.py\n!.git", "a.py": "", "b": "", "sub/c.py": "", "sub/.git/hooks/x.py": "", ".git/x.py": ""},
			[]string{"a.py", "sub/c.py"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kept(tree(t, c.in(t), c.files), New(Options{})); !slices.Equal(got, c.keep) {
				t.Errorf("kept %q, want %q", got, c.keep)
			}
		})
	}
}

// TestD07LiteralNames is SkyPilot's defect 7: names that a shell would take for patterns.
func TestD07LiteralNames(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{
		".gitignore":  "data\\[1].txt\nq\\?.txt\nst\\*r.txt\n",
		"data[1].txt": "", "q?.txt": "", "st*r.txt": "",
		"data1.txt": "", "qx.txt": "", "stAAr.txt": "",
	})
	want := []string{".gitignore", "data1.txt", "qx.txt", "stAAr.txt"}
	if got := kept(root, New(Options{})); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestD12NestedGit is SkyPilot's defect 12: a .git below the root, with what it knows of
// remotes.
func TestD12NestedGit(t *testing.T) {
	hermetic(t)
	root := tree(t, plain(t), map[string]string{"sub/.git/config": "", "sub/a": "", "mod/.git": "gitdir: ../elsewhere", "mod/b": ""})
	if got, want := kept(root, New(Options{})), []string{"mod/b", "sub/a"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	all := []string{"mod/.git", "mod/b", "sub/.git/config", "sub/a"}
	if got := kept(root, New(Options{KeepGit: true})); !slices.Equal(got, all) {
		t.Errorf("kept %q with .git, want %q", got, all)
	}
	if got := kept(root, nil); !slices.Equal(got, all) {
		t.Errorf("kept %q without rules, want %q", got, all)
	}
}

// TestKeepGit shows that git's rules are never about .git, and those of .skyignore
// are.
func TestKeepGit(t *testing.T) {
	hermetic(t)
	top := tree(t, repository(t), map[string]string{".gitignore": "/*\n!/src\n", "a": "", "src/b": "", "src/.git/config": ""})
	rules := New(Options{KeepGit: true})
	got := slices.DeleteFunc(kept(top, rules), func(name string) bool { return strings.HasPrefix(name, ".git/") && name != ".git/HEAD" })
	if want := []string{".git/HEAD", "src/.git/config", "src/b"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	write(t, filepath.Join(top, skyFile), "/*\n!/src\n")
	rules.Settle(0)
	if got, want := kept(top, rules), []string{"src/.git/config", "src/b"}; !slices.Equal(got, want) {
		t.Errorf("kept %q by .skyignore, want %q", got, want)
	}
}

// TestD15OtherLanguages is SkyPilot's defect 15: names that have a meaning in other languages
// of patterns, or in a shell.
func TestD15OtherLanguages(t *testing.T) {
	hermetic(t)
	root := tree(t, plain(t), map[string]string{
		".skyignore": "a.log\nbuild\nit's\n$(x)\n",
		"a.log":      "", "build/x": "", "it's": "", "$(x)": "",
		"aXlog": "", "a.log.bak": "", "builder/x": "", "keepsake": "",
	})
	want := []string{".skyignore", "a.log.bak", "aXlog", "builder/x", "keepsake"}
	if got := kept(root, New(Options{})); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestTracked shows that what git tracks is kept, and nothing else of what is
// ignored, and that a later "git add" is noticed.
func TestTracked(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{
		".gitignore": "data/\n*.bin\n", "data/a/one": "", "data/a/two": "", "data/b": "", "m.bin": "", "n.bin": "",
	})
	run(t, root, "add", "-f", "data/a/one", "m.bin")
	rules := New(Options{})
	want := []string{".gitignore", "data/a/one", "m.bin"}
	if got := kept(root, rules); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	run(t, root, "add", "-f", "n.bin")
	if got := kept(root, rules); !slices.Equal(got, append(want, "n.bin")) {
		t.Errorf("kept %q after n.bin was added", got)
	}
}

// TestWithin shows a source that is part of a work tree, and one that git
// ignores as a whole.
func TestWithin(t *testing.T) {
	hermetic(t)
	top := tree(t, repository(t), map[string]string{
		".gitignore": "/src/a\n/data/\n", "src/a": "", "src/b": "", "data/a": "", "data/sub/.git/x": "", "data/.gitignore": "a",
	})
	if got, want := kept(filepath.Join(top, "src"), New(Options{})), []string{"b"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	var log bytes.Buffer
	rules := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		if got, want := kept(filepath.Join(top, "data"), rules), []string{".gitignore", "a"}; !slices.Equal(got, want) {
			t.Errorf("kept %q, want %q", got, want)
		}
	}
	if n := strings.Count(log.String(), "ignores the source as a whole"); n != 1 {
		t.Errorf("said %d times that the rules are not applied, want once:\n%s", n, &log)
	}
}

// TestRepositories shows that each work tree has its own rules: one inside of
// another, those below a plain directory, and one that was added to another.
func TestRepositories(t *testing.T) {
	hermetic(t)
	dir := plain(t)
	for _, at := range []string{"one", "one/inner", "two"} {
		mkdir(t, filepath.Join(dir, at))
		run(t, filepath.Join(dir, at), "init", "-q")
	}
	tree(t, dir, map[string]string{
		"one/.gitignore": "a\n", "one/a": "", "one/b": "", "one/inner/a": "", "one/inner/.gitignore": "b", "one/inner/b": "",
		"two/a": "", "two/c": "", "two/.git/info/exclude": "c\n", "a": "",
	})
	run(t, filepath.Join(dir, "two"), "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m")
	run(t, filepath.Join(dir, "two"), "worktree", "add", "-q", "../tree")
	tree(t, dir, map[string]string{"tree/c": "", "tree/d": ""})
	want := []string{"a", "one/.gitignore", "one/b", "one/inner/.gitignore", "one/inner/a", "tree/d", "two/a"}
	if got := kept(dir, New(Options{})); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestExcludesFile shows the rules that git's own configuration names.
func TestExcludesFile(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{"a": "", "b": "", "mine": "b\n"})
	write(t, defaultExcludes(), "a\n")
	if got, want := kept(root, New(Options{})), []string{"b", "mine"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	run(t, root, "config", "core.excludesFile", "mine")
	if got, want := kept(root, New(Options{})), []string{"a", "mine"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestChange shows that a rule file that changes is read again, be it within the
// same moment and of the same size, and that until the rules have settled what
// was ignored before is ignored still.
func TestChange(t *testing.T) {
	hermetic(t)
	root := tree(t, plain(t), map[string]string{".skyignore": "a", "a": "", "b": "", "c": ""})
	rules := New(Options{})
	want := func(names ...string) {
		t.Helper()
		if got := slices.DeleteFunc(kept(root, rules), func(name string) bool { return name == skyFile }); !slices.Equal(got, names) {
			t.Errorf("kept %q, want %q", got, names)
		}
	}
	want("b", "c")
	for _, c := range []struct{ name, other string }{{"b", "a"}, {"a", "b"}} {
		write(t, filepath.Join(root, skyFile), c.name)
		want("c")
		rules.Settle(0)
		want(c.other, "c")
	}
	write(t, filepath.Join(root, skyFile), "") // it is about to be written
	want("b", "c")
	write(t, filepath.Join(root, skyFile), "b")
	want("c")
	write(t, filepath.Join(root, skyFile), "!a\nc")
	want("b")
	rules.Settle(0)
	want("a", "b")
	os.Remove(filepath.Join(root, skyFile))
	want("a", "b")
	rules.Settle(0)
	want("a", "b", "c")
}

// TestChoice shows that a .skyignore takes the place of git's rules, and gives it
// back, when rules settle and not before.
func TestChoice(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{".gitignore": "a", "a": "", "b": ""})
	rules := New(Options{})
	want := func(names ...string) {
		t.Helper()
		if got := slices.DeleteFunc(kept(root, rules), func(name string) bool { return name[0] == '.' }); !slices.Equal(got, names) {
			t.Errorf("kept %q, want %q", got, names)
		}
	}
	want("b")
	write(t, filepath.Join(root, skyFile), "b")
	want("b")
	rules.Settle(0)
	want("a")
	os.Remove(filepath.Join(root, skyFile))
	want("a")
	rules.Settle(0)
	want("b")
}

// TestRule shows that a verdict names its line.
func TestRule(t *testing.T) {
	root := tree(t, plain(t), map[string]string{".skyignore": "# one\n\nbuild/\n"})
	d := New(Options{}).Root(root)
	for name, want := range map[string]string{
		"build": filepath.Join(d.path, skyFile) + ":3: build/",
		".git":  `the built-in rule ".git"`,
	} {
		if got := d.Match(name, true).String(); got != want {
			t.Errorf("%s is ignored by %s, want %s", name, got, want)
		}
	}
	if rule := d.Enter("build").Enter("x").Match("y", false); rule == nil || rule.Line != 3 {
		t.Errorf("build/x/y is ignored by %v, want line 3", rule)
	}
	if rule := d.Match("build", false); rule != nil {
		t.Errorf("a file build is ignored by %s", rule)
	}
}

// TestWithoutGit shows that rules count where git is not installed, and that
// what is missing is said.
func TestWithoutGit(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{".gitignore": "a\n", "a": "", "b": ""})
	run(t, root, "add", "-f", "a")
	t.Setenv("PATH", "")
	var log bytes.Buffer
	got := kept(root, New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))}))
	if want := []string{".gitignore", "b"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	if !strings.Contains(log.String(), "git cannot be asked") {
		t.Errorf("nothing was said of it: %q", &log)
	}
}

// TestUnreadable shows that nothing is taken to be wanted where rules cannot be
// read, unless they could before, and that this is said.
func TestUnreadable(t *testing.T) {
	hermetic(t)
	root := tree(t, plain(t), map[string]string{".skyignore": "", "a": "", "sub/b": "", "sub/.skyignore/x": ""})
	var log bytes.Buffer
	rules := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if got, want := kept(root, rules), []string{".skyignore", "a"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	if !strings.Contains(log.String(), "rules cannot be read, nothing in their directory is synced") {
		t.Errorf("nothing was said of it: %q", &log)
	}
	os.Remove(filepath.Join(root, skyFile))
	mkdir(t, filepath.Join(root, skyFile))
	rules.Settle(0)
	if got, want := kept(root, rules), []string{"a"}; !slices.Equal(got, want) {
		t.Errorf("kept %q by what was read before, want %q", got, want)
	}
}

// TestRuleOnTracked shows that a new rule takes nothing away that git tracks.
func TestRuleOnTracked(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{"a.csv": "", "sub/b.csv": "", "c.csv": "", "sub/d": ""})
	run(t, root, "add", "a.csv", "sub/b.csv")
	rules := New(Options{})
	kept(root, rules)
	write(t, filepath.Join(root, gitFile), "*.csv\nsub\n")
	rules.Settle(0)
	if got, want := kept(root, rules), []string{".gitignore", "a.csv", "sub/b.csv"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestNoPrograms shows that a repository cannot have a program of its choice run:
// here git would fetch a .gitignore that it misses.
func TestNoPrograms(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{"sub/.gitignore": "a", "sub/a": ""})
	run(t, root, "add", ".")
	run(t, root, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m")
	blob := strings.TrimSpace(run(t, root, "rev-parse", ":sub/.gitignore"))
	run(t, root, "update-index", "--skip-worktree", "sub/.gitignore")
	os.Remove(filepath.Join(root, "sub", gitFile))
	os.Remove(filepath.Join(root, gitDir, "objects", blob[:2], blob[2:]))
	ran := filepath.Join(root, "ran")
	for _, c := range []string{"core.repositoryformatversion=1", "extensions.partialClone=origin", "remote.origin.promisor=true",
		"remote.origin.url=ssh://x/y", "core.sshCommand=touch " + ran + "; false", "core.fsmonitor=touch " + ran} {
		name, value, _ := strings.Cut(c, "=")
		run(t, root, "config", name, value)
	}
	kept(root, New(Options{}))
	if _, err := os.Lstat(ran); err == nil {
		t.Error("a program of the repository's was run")
	}
}

// TestGitFails shows that what git tracks is remembered while git does not answer.
func TestGitFails(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{".gitignore": "*.bin", "a.bin": "", "b.bin": ""})
	run(t, root, "add", "-f", "a.bin")
	rules := New(Options{})
	want := []string{".gitignore", "a.bin"}
	if got := kept(root, rules); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	path := os.Getenv("PATH")
	os.Setenv("PATH", "")
	got := kept(root, rules) // the index is new: git is asked
	os.Setenv("PATH", path)
	if !slices.Equal(got, want) {
		t.Errorf("kept %q while git failed, want %q", got, want)
	}
}

// TestNoRepository shows that what only looks like a work tree leaves the rules
// above it alone.
func TestNoRepository(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{".gitignore": "*.env",
		"stale/.git": "gitdir: /nonexistent", "stale/x.env": "", "half/.git/HEAD": "", "half/x.env": "", "half/y": ""})
	if got, want := kept(root, New(Options{})), []string{".gitignore", "half/y"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestSubmodule shows that a submodule is kept though its directory is ignored.
func TestSubmodule(t *testing.T) {
	hermetic(t)
	other := tree(t, repository(t), map[string]string{"a": "", ".gitignore": "b"})
	run(t, other, "add", ".")
	run(t, other, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m")
	root := tree(t, repository(t), map[string]string{".gitignore": "/vendor/", "vendor/x": ""})
	run(t, root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "-f", other, "vendor/lib")
	write(t, filepath.Join(root, "vendor/lib/b"), "")
	if got, want := kept(root, New(Options{})), []string{".gitignore", ".gitmodules", "vendor/lib/.gitignore", "vendor/lib/a"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestVersion shows that it changes with what git tracks, and with nothing else.
func TestVersion(t *testing.T) {
	hermetic(t)
	root := tree(t, repository(t), map[string]string{"a": "", "b": ""})
	rules := New(Options{})
	kept(root, rules)
	before := rules.Version()
	write(t, filepath.Join(root, "c"), "")
	if rules.Version() != before {
		t.Error("it changed with a file that git does not track")
	}
	run(t, root, "add", "a")
	if rules.Version() == before {
		t.Error("it did not change")
	}
}

// TestCostly shows that no pattern takes longer than its length times the
// text's: this one has as many ways to fail as there are stars.
func TestCostly(t *testing.T) {
	g := compile(strings.Repeat("*a", 500)+"b", true)
	if g.match(strings.Repeat("a", 2000)) {
		t.Error("it matches")
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("a/**/[!b-c]*", "a/x")
	f.Fuzz(func(t *testing.T, line, path string) {
		for _, p := range parse("f", []byte(line)) {
			p.match(path, path, false)
		}
	})
}

// TestBegun shows that a work tree counts from the moment when git begins to make
// it: no event tells when it is done.
func TestBegun(t *testing.T) {
	hermetic(t)
	root := tree(t, plain(t), map[string]string{".gitignore": "a", "a": "", "b": ""})
	mkdir(t, filepath.Join(root, gitDir))
	if got, want := kept(root, New(Options{})), []string{".gitignore", "b"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}
