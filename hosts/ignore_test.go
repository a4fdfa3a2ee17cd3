//go:build unix

package hosts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/integration/servers"
)

// newIgnoringRig is newRig with the rules of plain mounts.
func newIgnoringRig(t *testing.T, sshd *servers.SSHServer) (r *rig, target string) {
	target = filepath.Join(sshd.Dir, "target")
	r = newRig(t, sshd.Config, target, sshd.Host)
	r.opts.Ignore = ignore.New(ignore.Options{KeepGit: true})
	return r, target
}

// files returns the names of what is below dir and is no directory, but for what
// is in a .git.
func files(t testing.TB, dir string) []string {
	t.Helper()
	names := []string{}
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.Name() == ".git":
			return fs.SkipDir
		case !e.IsDir():
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
		}
		return nil
	}))
	return names
}

func waitFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	waitFor(t, fmt.Sprintf("files %q", want), func() bool {
		got := files(t, dir)
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() any { return files(t, dir) })
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// TestIgnored wants what .skyignore names to stay here, first and later, what is
// ignored later to go from the host, and what no longer is to come.
func TestIgnored(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r, target := newIgnoringRig(t, sshd)
	rules := filepath.Join(r.source, ".skyignore")
	write(t, rules, "*.log\n!keep.log\n/build/\n")
	write(t, filepath.Join(r.source, "sub/.skyignore"), "secret\n")
	for _, name := range []string{
		"a", "x.log", ".h.log", "keep.log", "build/out", "build/sub/out", "sub/build/in", "sub/secret", "sub/ok", "late/one", ".git/config",
	} {
		write(t, filepath.Join(r.source, name), name)
	}
	kept := []string{".skyignore", "a", "keep.log", "sub/.skyignore", "sub/build/in", "sub/ok"}
	s, stop := r.run(t)
	waitFiles(t, target, append(kept, "late/one")...)
	if b, _ := os.ReadFile(filepath.Join(target, ".git/config")); string(b) != ".git/config" {
		t.Errorf("the host has %q for git's configuration", b)
	}
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })

	write(t, filepath.Join(r.source, "y.log"), "")
	write(t, filepath.Join(r.source, "build/new/tree/out"), "")
	write(t, filepath.Join(r.source, "b"), "")
	must(t, os.Rename(filepath.Join(r.source, "a"), filepath.Join(r.source, "a.log")))
	kept[1] = "b"
	waitFiles(t, target, append(kept, "late/one")...)

	write(t, filepath.Join(target, "late/theirs"), "")
	write(t, rules, "*.log\n!keep.log\n/build/\nlate\n")
	waitFiles(t, target, append(kept, "late/theirs")...)
	write(t, rules, "*.log\n!keep.log\n")
	waitFiles(t, target, append(kept, "late/theirs", "late/one", "build/out", "build/sub/out", "build/new/tree/out")...)
	must(t, os.Remove(filepath.Join(r.source, "sub/.skyignore")))
	kept = []string{".skyignore", "b", "keep.log", "sub/build/in", "sub/ok", "sub/secret", "late/theirs", "late/one"}
	waitFiles(t, target, append(kept, "build/out", "build/sub/out", "build/new/tree/out")...)
	stop()

	// What changed while nobody looked.
	write(t, rules, "*.log\n/build/\n")
	kept = slices.DeleteFunc(kept, func(name string) bool { return name == "keep.log" })
	_, stop = r.run(t)
	waitFiles(t, target, kept...)
	stop()
	must(t, os.Remove(rules))
	must(t, hosts.New(r.opts).Once(t.Context()))
	all := append(files(t, r.source), "late/theirs")
	waitFiles(t, target, all...)
}

// TestIgnoredByGit wants what git ignores to stay here, in a work tree and as soon
// as it is one, but for what git tracks; and git's own directory to be sent.
func TestIgnoredByGit(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r, target := newIgnoringRig(t, sshd)
	write(t, filepath.Join(r.source, ".gitignore"), "*.bin\ndata/\n")
	for _, name := range []string{"a.py", "m.bin", "n.bin", "data/big"} {
		write(t, filepath.Join(r.source, name), name)
	}
	s, stop := r.run(t)
	waitFiles(t, target, ".gitignore", "a.py", "data/big", "m.bin", "n.bin")
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	elsewhere := t.TempDir()
	git(t, elsewhere, "init", "-q")
	must(t, os.Rename(filepath.Join(elsewhere, ".git"), filepath.Join(r.source, ".git")))
	waitFiles(t, target, ".gitignore", "a.py")
	stop()
	git(t, r.source, "add", "-f", "m.bin", "a.py", ".gitignore")
	git(t, r.source, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "one")
	must(t, hosts.New(r.opts).Once(t.Context()))
	waitFiles(t, target, ".gitignore", "a.py", "m.bin")
	git(t, target, "rev-parse", "HEAD")
	git(t, target, "diff", "--exit-code", "HEAD")
}

// TestIgnoredMost wants rules that ignore most of a source to wait for a word, as
// other deletions do.
func TestIgnoredMost(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r, target := newIgnoringRig(t, sshd)
	write(t, filepath.Join(r.source, "kept"), "")
	for i := range 120 {
		write(t, filepath.Join(r.source, fmt.Sprintf("dir/%d", i)), "")
	}
	s, _ := r.run(t)
	r.waitSame(t, target)
	write(t, filepath.Join(r.source, ".skyignore"), "dir\n")
	waitFor(t, "guarded", func() bool { return s.Status()[0].State == hosts.Guarded }, func() any { return s.Status() })
	write(t, filepath.Join(r.source, ".skyignore"), "")
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) }, func() any { return s.Status() })
	r.waitSame(t, target)
}

// TestFileIgnored wants a file that is a mount of its own to be sent whatever the
// rules beside it say.
func TestFileIgnored(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r, target := newIgnoringRig(t, sshd)
	write(t, filepath.Join(r.source, ".skyignore"), "*")
	write(t, filepath.Join(r.source, "file"), "one")
	r.opts.Mounts = []hosts.Mount{{Source: filepath.Join(r.source, "file"), Target: target}}
	must(t, hosts.New(r.opts).Once(t.Context()))
	if b, _ := os.ReadFile(target); string(b) != "one" {
		t.Errorf("the host has %q", b)
	}
}

// TestD13ManyIgnoredOnHosts is SkyPilot's defect 13: more ignored files than a command line holds.
func TestD13ManyIgnoredOnHosts(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r, target := newIgnoringRig(t, sshd)
	rules := filepath.Join(r.source, ".skyignore")
	write(t, rules, "*.tmp\n")
	write(t, filepath.Join(r.source, "kept"), "")
	for i := range 7_000 {
		write(t, filepath.Join(r.source, fmt.Sprintf("%d/a-rather-long-name-of-a-file-%d.tmp", i/100, i)), "")
	}
	must(t, hosts.New(r.opts).Once(t.Context()))
	waitFiles(t, target, ".skyignore", "kept")
	must(t, os.Remove(rules))
	must(t, hosts.New(r.opts).Once(t.Context()))
	r.waitSame(t, target)
	write(t, rules, "*.tmp\n") // sent before, deleted now
	r.opts.AllowMassDelete = true
	must(t, hosts.New(r.opts).Once(t.Context()))
	waitFiles(t, target, ".skyignore", "kept")
}

// TestLookIgnored wants a batch that names what is ignored, in whatever order, to
// change nothing, and to bring what is not.
func TestLookIgnored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change        func(root string)
		names         []string
		changed, gone []string
	}{
		"ignored tree": {
			func(root string) { write(t, root+"/tmp/x/y", "") },
			[]string{"tmp", "tmp/x", "tmp/x/y"}, nil, nil,
		},
		"deep in an ignored tree": {
			func(root string) { write(t, root+"/tmp/x/y", "") },
			[]string{"tmp/x/y"}, nil, nil,
		},
		"re-included": {
			func(root string) { write(t, root+"/d/keep.log", ""); write(t, root+"/d/b.log", "") },
			[]string{"d/b.log", "d/keep.log"}, []string{"d", "d/keep.log"}, nil,
		},
		"a file of an ignored directory's name": {
			func(root string) { write(t, root+"/a/tmp", "") },
			[]string{"a/tmp"}, []string{"a", "a/tmp"}, nil, // tmp/ is about directories
		},
		"renamed to what is ignored": {
			func(root string) { os.Rename(root+"/dir", root+"/tmp") },
			[]string{"dir", "tmp", "tmp/sub", "tmp/sub/c"}, nil, []string{"dir", "dir/sub", "dir/sub/c"},
		},
		"in git's directory": {
			func(root string) { write(t, root+"/.git/x.log", "") },
			[]string{".git/x.log"}, []string{".git", ".git/x.log"}, nil,
		},
	} {
		for _, order := range []string{"down", "up"} {
			t.Run(name+" "+order, func(t *testing.T) {
				root := t.TempDir()
				write(t, filepath.Join(root, ".skyignore"), "tmp/\n*.log\n!keep.log\n")
				write(t, filepath.Join(root, "dir/sub/c"), "")
				names := slices.Clone(tc.names)
				if order == "up" {
					slices.Reverse(names)
				}
				rules := ignore.New(ignore.Options{KeepGit: true})
				changed, gone, _ := hosts.Look(root, rules, func() { tc.change(root) }, names...)
				slices.Sort(changed)
				slices.Sort(gone)
				if !slices.Equal(changed, tc.changed) || !slices.Equal(gone, tc.gone) {
					t.Errorf("changed %q, gone %q; want %q, %q", changed, gone, tc.changed, tc.gone)
				}
			})
		}
	}
}
