package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// A mirror is a reader of batches: it keeps what it finds at their paths, so it
// equals the source once every change was named.
type mirror struct {
	testing.TB
	w     *watcher.Watcher
	root  string
	files map[manifest.Path]string // content; "/" of a directory, ">" of a link
	named map[manifest.Path]bool   // since it was last cleared
}

func startMirror(t testing.TB, root string) *mirror {
	m := &mirror{TB: t, w: start(t, watcher.Options{Root: root}), root: root, named: map[manifest.Path]bool{}}
	m.files = snapshot(t, root)
	return m
}

// snapshot reads a source that nobody changes.
func snapshot(t testing.TB, root string) map[manifest.Path]string {
	t.Helper()
	files := map[manifest.Path]string{}
	must(t, fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != "." {
			files[manifest.Path(p)], _ = content(filepath.Join(root, p))
		}
		return err
	}))
	return files
}

// content returns what is at path, and false for nothing.
func content(path string) (string, bool) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return "", false
	case info.IsDir():
		return "/", true
	case !info.Mode().IsRegular():
		return ">", true
	}
	body, err := os.ReadFile(path)
	return string(body), err == nil
}

// apply looks where b says.
func (m *mirror) apply(b manifest.Batch) {
	m.Helper()
	if b.Rescan != "" {
		m.Fatalf("rescan %q: events were lost", b.Rescan)
	}
	for _, p := range b.Paths {
		m.named[p] = true
		is, ok := content(filepath.Join(m.root, string(p)))
		for dir := p.Dir(); dir != ""; dir = dir.Dir() { // not through a link
			up, _ := content(filepath.Join(m.root, string(dir)))
			ok = ok && up == "/"
		}
		if !ok || is != "/" {
			maps.DeleteFunc(m.files, func(q manifest.Path, _ string) bool { return q.Within(p) })
			delete(m.files, p)
		}
		if ok {
			m.files[p] = is
			m.miss(p)
		}
	}
}

// miss forgets what the mirror has in directory p, and the source has not.
func (m *mirror) miss(p manifest.Path) {
	for q := range m.files {
		if q.Dir() != p {
			continue
		}
		if _, ok := content(filepath.Join(m.root, string(q))); !ok {
			maps.DeleteFunc(m.files, func(r manifest.Path, _ string) bool { return r == q || r.Within(q) })
		}
	}
}

// catchUp takes batches until the mirror equals the source, which nobody
// changes any more.
func (m *mirror) catchUp() {
	m.Helper()
	want := snapshot(m, m.root)
	m.until(func() bool { return maps.Equal(m.files, want) }, func() string {
		for p, is := range want {
			if got, ok := m.files[p]; got != is {
				return fmt.Sprintf("%s: %q (%v), want %q", p, got, ok, is)
			}
		}
		extra := maps.Clone(m.files)
		maps.DeleteFunc(extra, func(p manifest.Path, _ string) bool { _, ok := want[p]; return ok })
		return fmt.Sprintf("%d files, want %d: not there: %q", len(m.files), len(want), extra)
	})
}

// until takes batches until done.
func (m *mirror) until(done func() bool, missing func() string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !done() {
		b, err := m.w.Next(ctx)
		if err != nil {
			m.Fatalf("%v: %s", err, missing())
		}
		m.apply(b)
	}
}

// follow applies batches while work runs, then catches up and finds out
// whether every directory is watched under its own name.
func (m *mirror) follow(work ...func()) {
	m.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, f := range work {
		wg.Go(f)
	}
	go func() { wg.Wait(); stop() }()
	for {
		b, err := m.w.Next(ctx)
		if err != nil {
			break
		}
		m.apply(b)
	}
	m.catchUp()
	m.probeAll()
}

// probeAll writes a file into every directory and waits for all of them.
func (m *mirror) probeAll() {
	m.Helper()
	clear(m.named)
	var probes []manifest.Path
	for p, is := range snapshot(m, m.root) {
		if is == "/" {
			probes = append(probes, p.Join("probe"))
		}
	}
	for _, p := range probes {
		write(m, m.root, string(p))
	}
	unseen := func() []manifest.Path {
		return slices.DeleteFunc(slices.Clone(probes), func(p manifest.Path) bool { return m.named[p] })
	}
	m.until(func() bool { return len(unseen()) == 0 }, func() string {
		return fmt.Sprintf("%d of %d directories are not watched: %v", len(unseen()), len(probes), unseen())
	})
	m.catchUp()
}

// may is for what another goroutine may have made impossible.
func may(t testing.TB, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !isKind(err) {
		t.Error(err)
	}
}

func TestStressManyFiles(t *testing.T) {
	root := t.TempDir()
	m := startMirror(t, root)
	m.follow(func() {
		for d := range 50 {
			dir := fmt.Sprintf("d%d/sub", d)
			must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
			for f := range 100 {
				write(t, root, fmt.Sprintf("%s/f%d", dir, f))
			}
		}
	})
	if len(m.files) != 50*(2+100+2) {
		t.Errorf("%d files", len(m.files))
	}
}

func TestStressRenamedDirectories(t *testing.T) {
	root := t.TempDir()
	for d := range 100 {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprintf("d%d/a/b", d)), 0o755))
	}
	m := startMirror(t, root)
	var round atomic.Int64
	name := func(d int, r int64) string {
		if r == 0 {
			return fmt.Sprintf("d%d", d)
		}
		return fmt.Sprintf("d%d-%d", d, r)
	}
	rename := func() {
		for r := range int64(5) {
			for d := range 100 {
				must(t, os.Rename(filepath.Join(root, name(d, r)), filepath.Join(root, name(d, r+1))))
			}
			round.Store(r + 1)
		}
	}
	fill := func() {
		for i := range 5000 {
			p := filepath.Join(root, name(i%100, round.Load()), "a/b", fmt.Sprint("f", i%7))
			may(t, os.WriteFile(p, fmt.Append(nil, i), 0o644))
		}
	}
	m.follow(rename, fill)
}

func TestStressDeepDirectories(t *testing.T) {
	root := t.TempDir()
	m := startMirror(t, root)
	work := func(seed int) func() {
		return func() {
			for i := range 150 {
				dir := fmt.Sprintf("%d/%d/%d/x/y/%d", i%3, i%7, i%11, seed)
				must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
				write(t, root, fmt.Sprintf("%s/f%d", dir, i))
			}
		}
	}
	m.follow(work(1), work(2), work(3))
}

func TestStressRemoveAndMakeAgain(t *testing.T) {
	root := t.TempDir()
	m := startMirror(t, root)
	m.follow(func() {
		for i := range 60 {
			for d := range 5 {
				dir := fmt.Sprintf("tree/%d/sub", d)
				must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
				write(t, root, fmt.Sprintf("%s/f%d", dir, i))
			}
			if i < 59 {
				must(t, os.RemoveAll(filepath.Join(root, "tree")))
			}
		}
	})
}

// TestStressAnything does what it likes with few names, so that every kind of
// collision comes up.
func TestStressAnything(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			root := t.TempDir()
			m := startMirror(t, root)
			m.follow(anything(t, root, seed, 1), anything(t, root, seed, 2))
		})
	}
}

func anything(t testing.TB, root string, seed, who uint64) func() {
	rnd := rand.New(rand.NewPCG(seed, who))
	path := func() string {
		p := root
		for range 1 + rnd.IntN(4) {
			p = filepath.Join(p, string(rune('a'+rnd.IntN(4))))
		}
		return p
	}
	return func() {
		for i := range 1500 {
			p := path()
			switch rnd.IntN(10) {
			case 0, 1, 2:
				may(t, os.MkdirAll(p, 0o755))
			case 3, 4:
				may(t, os.WriteFile(p, fmt.Append(nil, i), 0o644))
			case 5, 6, 7:
				may(t, os.Rename(p, path()))
			case 8:
				may(t, os.Symlink("a", p))
			case 9:
				may(t, os.RemoveAll(p))
			}
			if i%100 == 0 {
				time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond) // lets it settle in the middle, sometimes
			}
		}
	}
}

// isKind reports whether err says that a name is of another kind than expected,
// that a directory is not empty, or that it would be moved into itself.
func isKind(err error) bool {
	for _, e := range []error{syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EINVAL, syscall.ELOOP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
