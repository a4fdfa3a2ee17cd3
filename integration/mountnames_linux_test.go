package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// save writes a file as editors do: under another name, which it then gets.
func save(path, content string) error {
	if err := os.WriteFile(path+".tmp", []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// conflictsIn returns what was kept beside in a directory.
func conflictsIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*conflict*"))
	must(t, err)
	return names
}

// TestMountSaves saves files over and over by a rename, faster than they are
// uploaded: the last version of each is what stays, and nobody is in the way.
func TestMountSaves(t *testing.T) {
	for _, how := range [][]string{nil, {"--write-back"}} {
		r := newRig(t)
		dirs := r.mounts(t, 2, how...)
		var savers errgroup.Group
		for k := range 40 {
			savers.Go(func() error {
				for v := range 4 {
					if err := save(filepath.Join(dirs[0], fmt.Sprint("c", k)), fmt.Sprint("version ", v)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		must(t, savers.Wait())
		r.home.MustRun(t, "mount", "flush", dirs[0])
		for k := range 40 {
			name := fmt.Sprint("c", k)
			wantFile(t, r.object(name), "version 3")
			for _, dir := range dirs {
				wantFile(t, filepath.Join(dir, name), "version 3")
			}
		}
		if names := listed(dirs[0]); len(names) != 40 {
			t.Errorf("%v: %d names, want 40: %v", how, len(names), names)
		}
	}
}

// TestMountCreateRace has two mounts make one file at the same moment, which
// neither has seen: it holds what one of them wrote, and nothing of the other.
func TestMountCreateRace(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	contents := []string{strings.Repeat("A", 1000), "b"}
	for round := range 100 {
		name := fmt.Sprint("f", round)
		var writers errgroup.Group
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s is there already: %v", name, err)
			}
		}
		for i, dir := range dirs {
			path := filepath.Join(dir, name)
			writers.Go(func() error {
				<-time.After(time.Duration(i*round%20) * time.Millisecond) // all orders, as chance has it
				if err := os.WriteFile(path, []byte(contents[i]), 0o644); err != nil && !errors.Is(err, syscall.ESTALE) {
					return err
				}
				return nil
			})
		}
		must(t, writers.Wait())
		if got := read(t, r.object(name)); got != contents[0] && got != contents[1] {
			t.Fatalf("round %d: a mixture of %d bytes: %.10q", round, len(got), got)
		}
	}
}

// A stall is a proxy that keeps chosen requests from a store.
type stall struct {
	*servers.Proxy
	refused atomic.Int64
}

// newStall puts a proxy before the store of mounts that are started later.
func (r *rig) newStall(t *testing.T) *stall {
	s := &stall{Proxy: servers.NewProxy(t, r.server.Endpoint)}
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+s.URL)
	return s
}

// on refuses all requests of a method whose key ends so, until off.
func (s *stall) on(method, suffix string) {
	s.Decide(func(req *http.Request) servers.Fault {
		if req.Method == method && strings.HasSuffix(req.URL.Path, suffix) {
			s.refused.Add(1)
			return servers.Unavailable
		}
		return servers.Pass
	})
}

// off lets all pass again, after it has refused something for a while: what is
// tried again then is late.
func (s *stall) off(t *testing.T) {
	t.Helper()
	waitFor(t, "refused requests", func() bool { return s.refused.Load() > 0 })
	<-time.After(1200 * time.Millisecond) // the time is what is tested
	s.Decide(nil)
}

// TestMountLateChanges makes changes of names that the store refuses for a while,
// in which somebody else writes the same names: nothing of that is lost.
func TestMountLateChanges(t *testing.T) {
	r := newRig(t)
	s := r.newStall(t)
	dir := r.mounts(t, 1)[0]
	store := r.store(t)
	flush := func() { r.home.MustRun(t, "mount", "flush", dir) }
	for _, name := range []string{"removed", "replaced", "moved", "from", "big"} {
		write(t, filepath.Join(dir, name), "first")
	}

	s.on(http.MethodDelete, "/removed")
	must(t, os.Remove(filepath.Join(dir, "removed")))
	stranger(t, store, "removed", "hours of work")
	s.off(t)
	flush()
	wantFile(t, r.object("removed"), "hours of work")
	waitFor(t, "the stranger's file", func() bool { return contains(dir, "removed", "hours of work") })

	s.on(http.MethodPut, "/replaced")
	must(t, os.Rename(filepath.Join(dir, "moved"), filepath.Join(dir, "replaced")))
	s.Decide(nil)
	flush()
	wantFile(t, r.object("replaced"), "first")
	s.refused.Store(0)
	s.on(http.MethodPut, "/replaced")
	must(t, os.Rename(filepath.Join(dir, "from"), filepath.Join(dir, "replaced")))
	stranger(t, store, "replaced", "of somebody else")
	s.off(t)
	flush()
	wantFile(t, r.object("replaced"), "of somebody else")
	waitFor(t, "the stranger's file", func() bool { return contains(dir, "replaced", "of somebody else") })
	waitFor(t, "the file kept beside", func() bool { return len(conflictsIn(t, dir)) == 1 })
	wantFile(t, conflictsIn(t, dir)[0], "first")

	s.refused.Store(0)
	s.on(http.MethodDelete, "/big") // the second half of a rename
	must(t, os.Rename(filepath.Join(dir, "big"), filepath.Join(dir, "bigger")))
	s.off(t)
	flush()
	wantFile(t, r.object("bigger"), "first")
	if _, err := os.Stat(r.object("big")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the former name of a renamed file: %v", err)
	}
}

// TestMountRenameUnsaved renames a file that somebody is writing to: until that
// is closed others read what the bucket has, under the new name.
func TestMountRenameUnsaved(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	write(t, filepath.Join(dirs[0], "f"), "eleven byte")
	file, err := os.OpenFile(filepath.Join(dirs[0], "f"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteString(strings.Repeat("more", 1000))
	must(t, err)
	must(t, os.Rename(filepath.Join(dirs[0], "f"), filepath.Join(dirs[0], "g")))
	waitFor(t, "the new name", func() bool { _, err := os.Stat(filepath.Join(dirs[1], "g")); return err == nil })
	wantFile(t, filepath.Join(dirs[1], "g"), "eleven byte")
	must(t, file.Close())
	wantFile(t, filepath.Join(dirs[1], "g"), "eleven byte"+strings.Repeat("more", 1000))
}

// TestMountNamesOfNew gives files that the bucket has not yet the names of files
// that it has, and takes these names away again: what was replaced is gone.
func TestMountNamesOfNew(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	in := func(name string) string { return filepath.Join(dirs[0], name) }
	for _, name := range []string{"a", "c", "e"} {
		write(t, in(name), "old "+name)
	}
	var open []*os.File
	for _, name := range []string{"t", "u", "v"} {
		file, err := os.Create(in(name))
		must(t, err)
		_, err = file.WriteString("new " + name)
		must(t, err)
		open = append(open, file)
	}
	must(t, os.Rename(in("t"), in("a")))
	must(t, os.Rename(in("a"), in("b")))
	must(t, os.Rename(in("u"), in("c")))
	must(t, os.Remove(in("c")))
	must(t, os.Rename(in("v"), in("e")))
	for _, file := range open {
		must(t, file.Close())
	}
	r.home.MustRun(t, "mount", "flush", dirs[0])
	for name, want := range map[string]string{"a": "", "b": "new t", "c": "", "e": "new v", "t": "", "u": "", "v": ""} {
		for _, path := range []string{r.object(name), filepath.Join(dirs[1], name)} {
			if want != "" {
				wantFile(t, path, want)
			} else if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
		}
	}
}

// TestMountNamesKilled kills mounts whose changes of names the store has refused:
// the next life makes them, unless somebody else has written meanwhile.
func TestMountNamesKilled(t *testing.T) {
	r := newRig(t)
	s := r.newStall(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	start := func() *program.Process { return r.live(t, []string{"mount", r.url, dir, "--write-back"}) }
	store := r.store(t)

	p := start()
	for _, name := range []string{"a", "b", "old", "dir/x", "plain", "mode", "closed/x"} {
		must(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		write(t, in(name), "first "+name)
	}
	r.home.MustRun(t, "mount", "flush", dir)
	var asked atomic.Bool
	s.Decide(func(req *http.Request) servers.Fault {
		if req.Method != http.MethodPut && req.Method != http.MethodDelete {
			return servers.Pass
		}
		if strings.HasSuffix(req.URL.Path, "/mode") {
			asked.Store(true)
		}
		return servers.Unavailable
	})
	must(t, os.Rename(in("a"), in("b")))
	must(t, os.Rename(in("dir"), in("moved")))
	write(t, in("doomed"), "x")
	must(t, os.Remove(in("doomed")))
	must(t, save(in("old"), "saved"))
	must(t, save(in("new"), "saved"))
	must(t, os.Remove(in("plain")))
	must(t, os.Chmod(in("mode"), 0o600))
	must(t, os.Chtimes(in("mode"), time.Time{}, time.Unix(1e9, 0)))
	must(t, os.Chmod(in("closed"), 0o700))
	waitFor(t, "the mode in the journal", asked.Load)
	p.Kill()
	stranger(t, store, "a", "newer a")
	stranger(t, store, "b", "newer b")
	s.Decide(nil)

	p = start()
	r.home.MustRun(t, "mount", "flush", dir)
	for name, want := range map[string]string{"a": "newer a", "b": "newer b", "moved/x": "first dir/x", "old": "saved", "new": "saved"} {
		wantFile(t, r.object(name), want)
		wantFile(t, in(name), want)
	}
	for _, name := range []string{"doomed", "plain", "dir", "old.tmp", "new.tmp"} {
		for _, path := range []string{r.object(name), in(name)} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is there again: %v", path, err)
			}
		}
	}
	if kept := conflictsIn(t, dir); len(kept) > 0 {
		t.Errorf("kept beside: %v", kept)
	}
	if fi, err := os.Stat(in("mode")); err != nil || fi.Mode().Perm() != 0o600 || fi.ModTime().Unix() != 1e9 {
		t.Errorf("mode: %v, %v", fi, err)
	}
	if fi, err := os.Stat(in("closed")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("closed: %v, %v", fi, err)
	}
	stop(t, p)
}
