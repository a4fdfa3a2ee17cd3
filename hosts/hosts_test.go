//go:build unix

package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/watcher"
)

const patience = 60 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, file, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(content), 0o644))
}

func waitFor(t testing.TB, what string, done func() bool, describe ...func() any) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Since(began) > patience {
			for _, d := range describe {
				t.Logf("%+v", d())
			}
			t.Fatalf("no %s within %v", what, patience)
		}
		<-tick.C
	}
	return time.Since(began)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tree describes what is below dir: a line for each path.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(dir, p)
		switch fi.Mode().Type() {
		case fs.ModeSymlink:
			to, _ := os.Readlink(p)
			lines = append(lines, fmt.Sprintf("%q -> %s", rel, to))
		case 0:
			b, _ := os.ReadFile(p)
			lines = append(lines, fmt.Sprintf("%q %v %q", rel, fi.Mode(), b))
		default:
			if rel != "." {
				lines = append(lines, fmt.Sprintf("%q %v", rel, fi.Mode()))
			}
		}
		return nil
	}))
	return lines
}

// A rig is a source, a watcher of it, and a server or more to send it to.
type rig struct {
	source string
	opts   hosts.Options

	mu      sync.Mutex // guards reports
	reports []hosts.Report
}

// newRig returns a source for the target on hosts of these names.
func newRig(t *testing.T, config, target string, names ...string) *rig {
	r := &rig{source: filepath.Join(t.TempDir(), "my 'source'")}
	must(t, os.Mkdir(r.source, 0o755))
	r.opts = hosts.Options{
		Hosts: names, SSH: hosts.SSH{Config: config}, State: t.TempDir(), Retry: 20 * time.Millisecond,
		Mounts: []hosts.Mount{{Source: r.source, Dir: true, Target: target}},
		Report: func(rep hosts.Report) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports = append(r.reports, rep)
		},
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("reports: %+v", r.reports)
		}
	})
	return r
}

// run watches and sends until the test ends, or the function it returns is called.
func (r *rig) run(t *testing.T) (s *hosts.Sync, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := watcher.New(watcher.Options{Root: r.source, Ignore: r.opts.Ignore})
	r.opts.Mounts[0].Changes = w
	s = hosts.New(r.opts)
	var all sync.WaitGroup
	all.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return s, stop
}

func ready(s *hosts.Sync, host string) bool {
	for _, st := range s.Status() {
		if st.Host == host && st.State != hosts.Ready {
			return false
		}
	}
	return true
}

func (r *rig) waitSame(t *testing.T, dir string, extra ...string) {
	t.Helper()
	want := append(tree(t, r.source), extra...)
	slices.Sort(want)
	waitFor(t, "same trees", func() bool {
		got := tree(t, dir)
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() any { return want }, func() any { return tree(t, dir) })
}

// TestKeptInStep sends a tree with everything that a tree may have, to a place
// that a shell would not leave alone, and then one change of each kind.
func TestKeptInStep(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r := newRig(t, sshd.Config, "~/a dir/$(touch oops) 'x' \"y\";z", sshd.Host)
	write(t, filepath.Join(r.source, "file"), "one")
	write(t, filepath.Join(r.source, "dir/sub/deep"), "deep")
	write(t, filepath.Join(r.source, "-rf; touch oops"), "name")
	for _, odd := range []string{"new\nline \xff", "#hash", ";semicolon", " space ", `back\slash`, "*", "[a]?", "#dir/;in"} {
		write(t, filepath.Join(r.source, odd), "odd")
	}
	write(t, filepath.Join(r.source, "run.sh"), "#!/bin/sh")
	must(t, os.Chmod(filepath.Join(r.source, "run.sh"), 0o750))
	must(t, os.Mkdir(filepath.Join(r.source, "empty"), 0o700))
	must(t, os.Symlink("/nowhere", filepath.Join(r.source, "link")))
	target := filepath.Join(sshd.Dir, "a dir/$(touch oops) 'x' \"y\";z")
	write(t, filepath.Join(target, "theirs"), "not ours")
	theirs := `"theirs" -rw-r--r-- "not ours"`
	s, _ := r.run(t)
	r.waitSame(t, target, theirs)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })

	for _, step := range []struct {
		name   string
		change func()
	}{
		{"edit", func() { write(t, filepath.Join(r.source, "file"), "two, and longer") }},
		{"same size and time", func() { r.rewrite(t, "dir/sub/deep", "DEEP") }},
		{"chmod", func() { must(t, os.Chmod(filepath.Join(r.source, "run.sh"), 0o644)) }},
		{"new", func() { write(t, filepath.Join(r.source, "some/new/tree/file"), "new") }},
		{"new link", func() { must(t, os.Symlink("file", filepath.Join(r.source, "another"))) }},
		{"rename", func() { must(t, os.Rename(filepath.Join(r.source, "file"), filepath.Join(r.source, "renamed"))) }},
		{"move", func() { must(t, os.Rename(filepath.Join(r.source, "dir"), filepath.Join(r.source, "moved"))) }},
		{"delete", func() { must(t, os.Remove(filepath.Join(r.source, "renamed"))) }},
		{"odd", func() {
			write(t, filepath.Join(r.source, "#hash"), "more")
			write(t, filepath.Join(r.source, ";semicolon"), "more")
		}},
		{"delete odd", func() {
			for _, odd := range []string{"#hash", ";semicolon", " space ", "*", "#dir/;in"} {
				must(t, os.Remove(filepath.Join(r.source, odd)))
			}
		}},
		{"file to directory", func() {
			must(t, os.Remove(filepath.Join(r.source, "run.sh")))
			write(t, filepath.Join(r.source, "run.sh/now"), "a directory")
		}},
		{"directory to file", func() {
			must(t, os.RemoveAll(filepath.Join(r.source, "some")))
			write(t, filepath.Join(r.source, "some"), "a file")
		}},
		{"directory to link", func() {
			must(t, os.RemoveAll(filepath.Join(r.source, "moved")))
			must(t, os.Symlink("some", filepath.Join(r.source, "moved")))
		}},
	} {
		step.change()
		t.Log(step.name)
		r.waitSame(t, target, theirs)
	}
	if _, err := os.Lstat(filepath.Join(sshd.Dir, "oops")); err == nil {
		t.Error("a remote shell read a name")
	}
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) }, func() any { return s.Status() })
}

// rewrite changes a file's bytes and leaves its size and time.
func (r *rig) rewrite(t *testing.T, name, content string) {
	t.Helper()
	name = filepath.Join(r.source, name)
	fi, err := os.Lstat(name)
	must(t, err)
	must(t, os.WriteFile(name, []byte(content), 0o644))
	must(t, os.Chtimes(name, fi.ModTime(), fi.ModTime()))
}

// TestRestart wants what happened while nobody looked: deletions of what was
// sent, and of nothing else, and changes that size and time do not tell.
func TestRestart(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	for _, name := range []string{"kept", "gone", "dir/gone", "changed", "swapped/file"} {
		write(t, filepath.Join(r.source, name), name)
	}
	past := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(r.source, "changed"), past, past))
	s, stop := r.run(t)
	r.waitSame(t, target)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	stop()
	write(t, filepath.Join(target, "theirs"), "")
	must(t, os.Remove(filepath.Join(r.source, "gone")))
	must(t, os.RemoveAll(filepath.Join(r.source, "dir")))
	r.rewrite(t, "changed", "CHANGED")
	must(t, os.RemoveAll(filepath.Join(r.source, "swapped")))
	write(t, filepath.Join(r.source, "swapped"), "a file now")
	must(t, os.Remove(filepath.Join(target, "kept"))) // it comes back
	_, stop = r.run(t)
	r.waitSame(t, target, `"theirs" -rw-r--r-- ""`)
	stop()

	// Once does the same.
	must(t, os.Remove(filepath.Join(r.source, "kept")))
	must(t, hosts.New(r.opts).Once(t.Context()))
	r.waitSame(t, target, `"theirs" -rw-r--r-- ""`)
}

// TestD27FIFO wants a FIFO and a socket to stop nothing, and to be named.
func TestD27FIFO(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r := newRig(t, sshd.Config, "~/x", sshd.Host)
	write(t, filepath.Join(r.source, "file"), "one")
	must(t, syscall.Mkfifo(filepath.Join(r.source, "fifo"), 0o644))
	s, _ := r.run(t)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	if st := s.Status()[0]; len(st.Skipped) != 1 || !strings.Contains(st.Skipped[0], "fifo: it is a FIFO") {
		t.Errorf("status %+v", st)
	}
	if got := tree(t, filepath.Join(sshd.Dir, "x")); !slices.Equal(got, []string{`"file" -rw-r--r-- "one"`}) {
		t.Errorf("the host has %q", got)
	}
}

// TestD28Modes wants the modes of files and directories to be those of the source,
// also after a change of nothing else.
func TestD28Modes(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	write(t, filepath.Join(r.source, "dir/run.sh"), "#!/bin/sh")
	must(t, os.Chmod(filepath.Join(r.source, "dir/run.sh"), 0o751))
	must(t, os.Chmod(filepath.Join(r.source, "dir"), 0o711))
	r.run(t)
	r.waitSame(t, target)
	must(t, os.Chmod(filepath.Join(r.source, "dir/run.sh"), 0o600))
	must(t, os.Chmod(filepath.Join(r.source, "dir"), 0o700))
	r.waitSame(t, target)
}

// TestKeepDeleted wants what is gone from the source to stay on the host, but for
// what something else has replaced.
func TestKeepDeleted(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	r.opts.KeepDeleted = true
	write(t, filepath.Join(r.source, "gone"), "kept")
	write(t, filepath.Join(r.source, "dir/file"), "")
	write(t, filepath.Join(r.source, "last"), "")
	s, _ := r.run(t)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	must(t, os.Remove(filepath.Join(r.source, "gone")))
	must(t, os.RemoveAll(filepath.Join(r.source, "dir")))
	write(t, filepath.Join(r.source, "dir"), "a file now")
	r.waitSame(t, target, `"gone" -rw-r--r-- "kept"`)
}

// TestAlreadyThere wants what a host has of its own to stay when the source's
// file of that name goes before it was ever sent.
func TestAlreadyThere(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	sshd.Stop()
	write(t, filepath.Join(r.source, "file"), "")
	write(t, filepath.Join(r.source, "other"), "")
	s, _ := r.run(t)
	waitFor(t, "degraded", func() bool { return s.Status()[0].State == hosts.Degraded })
	must(t, os.Remove(filepath.Join(r.source, "file")))
	write(t, filepath.Join(target, "file"), "theirs")
	waitFor(t, "deletion", func() bool { return s.Status()[0].Files == 1 })
	sshd.Start(t)
	r.waitSame(t, target, `"file" -rw-r--r-- "theirs"`)
}

// TestFile keeps one file in step with a file path, and takes no other from
// its directory.
func TestFile(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r := newRig(t, sshd.Config, "", sshd.Host)
	file := filepath.Join(r.source, "train.py")
	write(t, file, "one")
	write(t, filepath.Join(r.source, "other"), "other")
	changes := hosts.NewFile(file)
	r.opts.Mounts = []hosts.Mount{{Source: file, Target: filepath.Join(sshd.Dir, "new/dir/main.py"), Changes: changes}}
	s := hosts.New(r.opts)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { changes.Run(ctx) })
	all.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	has := func(want string) func() bool {
		return func() bool {
			return slices.Equal(tree(t, filepath.Join(sshd.Dir, "new/dir")), []string{fmt.Sprintf(`"main.py" -rw-r--r-- %q`, want)})
		}
	}
	waitFor(t, "file", has("one"))
	write(t, file, "two")
	waitFor(t, "edit", has("two"))
	must(t, os.Remove(file))
	waitFor(t, "word", func() bool { return s.Status()[0].State == hosts.Guarded }, func() any { return s.Status() })
	if !has("two")() {
		t.Error("a source that went was taken for a deletion")
	}
	write(t, file, "three")
	waitFor(t, "file again", has("three"))
}

// TestFailures wants each failure named, the other host served meanwhile, and the
// failing one once it can be.
func TestFailures(t *testing.T) {
	t.Parallel()
	good, bad := servers.Sshd(t), servers.Sshd(t)
	for name, tc := range map[string]struct {
		config     string // of the bad host
		cut        func()
		mend       func()
		kind       hosts.Kind
		words      string
		cannotMend bool
	}{
		"unreachable": {config: bad.ClientConfig("bad"), cut: bad.Stop, mend: func() { bad.Start(t) }, kind: hosts.Unreachable, words: "Connection refused"},
		"key":         {config: strings.ReplaceAll(bad.ClientConfig("bad"), bad.Identity, good.Identity), kind: hosts.Refused, words: "Permission denied", cannotMend: true},
		"host key":    {config: bad.ClientConfig("bad") + "\tHostKeyAlias somebody\n\tStrictHostKeyChecking yes\n", kind: hosts.HostKey, words: "Host key verification failed", cannotMend: true},
		"name":        {config: "Host bad\n\tHostName no-such-host.invalid\n", kind: hosts.Unreachable, words: "Could not resolve hostname", cannotMend: true},
	} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "config")
			must(t, os.WriteFile(config, []byte(tc.config+good.ClientConfig("good")), 0o600))
			target := "~/" + strings.ReplaceAll(name, " ", "-")
			r := newRig(t, config, target, "bad", "good")
			write(t, filepath.Join(r.source, "file"), "one")
			if tc.cut != nil {
				tc.cut()
			}
			s, _ := r.run(t)
			r.waitSame(t, filepath.Join(good.Dir, target[2:]))
			r.waitFailure(t, tc.kind, tc.words)
			write(t, filepath.Join(r.source, "file"), "two")
			r.waitSame(t, filepath.Join(good.Dir, target[2:]))
			if st := s.Status()[0]; st.State != hosts.Degraded && st.State != hosts.Starting || !strings.Contains(st.Reason, tc.words) {
				t.Errorf("status %+v", st)
			}
			if tc.cannotMend {
				return
			}
			tc.mend()
			r.waitSame(t, filepath.Join(bad.Dir, target[2:]))
		})
	}
}

// waitFailure waits until a transfer to "bad" failed in this way, and will be tried again.
func (r *rig) waitFailure(t *testing.T, kind hosts.Kind, words string) {
	t.Helper()
	waitFor(t, string(kind), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.ContainsFunc(r.reports, func(rep hosts.Report) bool {
			var e *hosts.Error
			return errors.As(rep.Err, &e) && e.Kind == kind && e.Host == "bad" && strings.Contains(e.Detail, words) && rep.Retry > 0
		})
	})
}

// TestClash wants a path that the host cannot take to hold up no other path of its
// mount (TestPause: nor to have it wait), and what is the host's to stay.
func TestClash(t *testing.T) {
	t.Parallel()
	bad := servers.Sshd(t)
	config := filepath.Join(t.TempDir(), "config")
	must(t, os.WriteFile(config, []byte(bad.ClientConfig("bad")), 0o600))
	r := newRig(t, config, "~/clash", "bad")
	target := filepath.Join(bad.Dir, "clash")
	write(t, filepath.Join(r.source, "d/a"), "a")
	r.run(t)
	waitFor(t, "the first pass", func() bool { return there(filepath.Join(target, "d/a")) })
	write(t, filepath.Join(target, "d/own"), "the host's")
	must(t, os.RemoveAll(filepath.Join(r.source, "d")))
	write(t, filepath.Join(r.source, "d"), "a file")
	r.waitFailure(t, hosts.Other, "")
	write(t, filepath.Join(r.source, "b"), "b")
	waitFor(t, "another file", func() bool { return there(filepath.Join(target, "b")) })
	if b, _ := os.ReadFile(filepath.Join(target, "d/own")); string(b) != "the host's" {
		t.Errorf("the host's own file holds %q", b)
	}
}

// TestNoRsync names a host that has no rsync.
func TestNoRsync(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	r := newRig(t, "", "~/x", "bad")
	r.opts.SSH = hosts.SSH{Config: sshd.Config, Rsync: "no-such-program"}
	must(t, os.WriteFile(sshd.Config, []byte(sshd.ClientConfig("bad")), 0o600))
	write(t, filepath.Join(r.source, "file"), "one")
	r.run(t)
	r.waitFailure(t, hosts.NoRsync, "not found")
}

// TestManyFiles sends a large tree, then one changed file. SKYAGENT_LONG=1 makes
// it the 78,000 files.
func TestManyFiles(t *testing.T) {
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	files := 5_000
	if os.Getenv("SKYAGENT_LONG") != "" {
		files = 78_000
	}
	for i := range files {
		write(t, filepath.Join(r.source, fmt.Sprintf("%d/%d", i/100, i)), fmt.Sprint(i))
	}
	began := time.Now()
	s, _ := r.run(t)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	t.Logf("%d files in %v", files, time.Since(began).Round(time.Millisecond))
	r.waitSame(t, target)
	for i := range 3 {
		want := fmt.Sprint("changed ", i)
		write(t, filepath.Join(r.source, "7/700"), want)
		took := waitFor(t, "change", func() bool { b, _ := os.ReadFile(filepath.Join(target, "7/700")); return string(b) == want })
		t.Logf("one changed file in %v", took.Round(time.Millisecond))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range r.reports[1:] {
		if rep.First || rep.Sent > 1 {
			t.Errorf("a change of one file sent %+v", rep)
		}
	}
}

// TestGuarded wants the loss of a source, or of most of it, to be no deletion.
func TestGuarded(t *testing.T) {
	t.Parallel()
	sshd := servers.Sshd(t)
	target := filepath.Join(sshd.Dir, "target")
	r := newRig(t, sshd.Config, target, sshd.Host)
	for i := range 120 {
		write(t, filepath.Join(r.source, fmt.Sprintf("dir/%d", i)), "")
	}
	s, stop := r.run(t)
	r.waitSame(t, target)
	want := tree(t, target)
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) })
	must(t, os.Rename(r.source, r.source+".away"))
	must(t, os.Mkdir(r.source, 0o755))
	waitFor(t, "guarded", func() bool { return s.Status()[0].State == hosts.Guarded }, func() any { return s.Status() })
	must(t, os.Remove(r.source))
	must(t, os.Rename(r.source+".away", r.source))
	waitFor(t, "ready", func() bool { return ready(s, sshd.Host) }, func() any { return s.Status() })
	if got := tree(t, target); !slices.Equal(got, want) {
		t.Errorf("the host has %q", got)
	}
	stop()
	must(t, os.RemoveAll(filepath.Join(r.source, "dir")))
	var guarded *hosts.GuardedError
	if err := hosts.New(r.opts).Once(t.Context()); !errors.As(err, &guarded) {
		t.Errorf("Once: %v", err)
	}
	if got := tree(t, target); !slices.Equal(got, want) {
		t.Errorf("the host has %q", got)
	}
	r.opts.AllowMassDelete = true
	must(t, hosts.New(r.opts).Once(t.Context()))
	r.waitSame(t, target)
}

// TestCheckHost wants nothing to pass for a host that ssh or rsync would take
// for something else.
func TestCheckHost(t *testing.T) {
	for host, ok := range map[string]bool{
		"vm": true, "ubuntu@10.0.0.1": true, "sky-cluster-head": true, "user@[::1]": true, "fe80::1": true,
		"": false, "-oProxyCommand=touch x": false, "-l": false, "user@-l": false, "user@": false, "a b": false,
		"vm:22": false, "vm:/etc": false, "a\nb": false, "a/b": false, "'a'": false,
	} {
		if err := hosts.CheckHost(host); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
}
