package integration_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// differences returns up to ten names, below any of those given (or all), that
// are not the same in two trees: type, permissions and bytes. Symlinks and
// special files count as absent, as does what skyagent keeps in a replica.
func differences(a, b string, names ...string) []string {
	d := &comparison{a: a, b: b}
	if len(names) == 0 {
		names = []string{"."}
	}
	for _, name := range names {
		d.compare(name)
	}
	return d.found
}

type comparison struct {
	a, b  string
	found []string
}

func (d *comparison) compare(name string) {
	if len(d.found) >= 10 {
		return
	}
	a, b := synced(filepath.Join(d.a, name)), synced(filepath.Join(d.b, name))
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.differ(name, "only in the second")
	case b == nil:
		d.differ(name, "only in the first")
	case a.Mode() != b.Mode() && name != ".": // the root's mode is its owner's
		d.differ(name, fmt.Sprintf("%v and %v", a.Mode(), b.Mode()))
	case a.IsDir():
		d.compareDir(name)
	case a.Size() != b.Size():
		d.differ(name, fmt.Sprintf("%d and %d bytes", a.Size(), b.Size()))
	default:
		d.compareBytes(name)
	}
}

func (d *comparison) differ(name, how string) { d.found = append(d.found, name+": "+how) }

func (d *comparison) compareDir(name string) {
	names := append(listed(filepath.Join(d.a, name)), listed(filepath.Join(d.b, name))...)
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		if name != "." || n != manifest.Reserved {
			d.compare(filepath.Join(name, n))
		}
	}
}

func (d *comparison) compareBytes(name string) {
	a, errA := os.ReadFile(filepath.Join(d.a, name))
	b, errB := os.ReadFile(filepath.Join(d.b, name))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		d.differ(name, "other bytes")
	}
}

// synced returns what lies at path if that is synced at all.
func synced(path string) fs.FileInfo {
	fi, err := os.Lstat(path)
	if err != nil || !fi.IsDir() && !fi.Mode().IsRegular() {
		return nil
	}
	return fi
}

func listed(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// waitSame waits until two trees are the same, at the names given or wholly,
// and returns how long that took.
func waitSame(t *testing.T, a, b string, names ...string) time.Duration {
	t.Helper()
	return waitFor(t, "sameness of "+a+" and "+b,
		func() bool { return differences(a, b, names...) == nil },
		func() any { return strings.Join(differences(a, b, names...), "\n") })
}

// copyTree copies files and directories, and makes everything writable.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// size returns how many files and bytes a tree has.
func size(t *testing.T, dir string) (files int, total int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		files, total = files+1, total+fi.Size()
		return err
	}))
	return files, total
}

// An editor changes a tree at random, as people and tools do.
type editor struct {
	t       *testing.T
	root    string
	rng     *rand.Rand
	made    int
	touched map[string]bool
	counts  map[string]int
}

func newEditor(t *testing.T, root string, rng *rand.Rand) *editor {
	return &editor{t: t, root: root, rng: rng, touched: map[string]bool{}, counts: map[string]int{}}
}

// names returns everything that was changed, in order.
func (e *editor) names() []string {
	var names []string
	for name := range e.touched {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (e *editor) path(name string) string { return filepath.Join(e.root, name) }

// edit makes one change.
func (e *editor) edit() {
	e.t.Helper()
	ops := []struct {
		name   string
		weight int
		do     func() error
	}{
		{"append", 20, e.append}, {"patch", 15, e.patch}, {"save", 20, e.save}, {"create", 10, e.create},
		{"delete file", 10, e.deleteFile}, {"delete directory", 2, e.deleteDir}, {"rename file", 10, e.renameFile},
		{"rename directory", 5, e.renameDir}, {"file to directory", 3, e.fileToDir}, {"directory to file", 2, e.dirToFile},
		{"file to symlink", 2, e.fileToLink}, {"mode", 3, e.mode},
	}
	n := e.rng.IntN(102)
	for _, op := range ops {
		if n -= op.weight; n >= 0 {
			continue
		}
		if err := op.do(); err != nil {
			e.t.Fatalf("%s: %v", op.name, err)
		}
		e.counts[op.name]++
		return
	}
}

// pick returns a random file, or a directory of few files; it makes one when
// there seem to be none.
func (e *editor) pick(dir bool) string {
	for range 100 {
		name := e.descend(".")
		fi := synced(e.path(name))
		if name != "." && fi != nil && fi.IsDir() == dir && (!dir || e.count(name) <= fewFiles) {
			e.touched[name] = true
			return name
		}
	}
	name := e.fresh()
	path := e.path(name)
	if dir {
		path = filepath.Join(path, "inside")
	}
	write(e.t, path, "made")
	return name
}

const fewFiles = 50

func (e *editor) descend(name string) string {
	for {
		below := listed(e.path(name))
		if len(below) == 0 || name != "." && e.rng.IntN(4) == 0 {
			return name
		}
		name = filepath.Join(name, below[e.rng.IntN(len(below))])
		if fi := synced(e.path(name)); fi == nil || !fi.IsDir() {
			return name
		}
	}
}

func (e *editor) count(name string) (n int) {
	filepath.WalkDir(e.path(name), func(_ string, _ fs.DirEntry, err error) error { n++; return err })
	return n
}

// fresh returns a name that is not there, in a directory that is.
func (e *editor) fresh() string {
	e.made++
	name := filepath.Join(filepath.Dir(e.descend(".")), fmt.Sprintf("made-%d", e.made))
	e.touched[name] = true
	return name
}

func (e *editor) content() []byte {
	b := make([]byte, e.rng.IntN(20<<10))
	for i := range b {
		b[i] = byte(e.rng.Uint32())
	}
	return b
}

func (e *editor) append() error {
	f, err := os.OpenFile(e.path(e.pick(false)), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(e.content(), '\n'))
	return err
}

// patch changes bytes in place and leaves the size as it is.
func (e *editor) patch() error {
	path := e.path(e.pick(false))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	_, err = f.WriteAt([]byte{byte(e.rng.Uint32())}, e.rng.Int64N(fi.Size()))
	return err
}

// save replaces a file by rename, as editors do.
func (e *editor) save() error {
	path := e.path(e.pick(false))
	temp := path + ".tmp~"
	if err := os.WriteFile(temp, e.content(), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (e *editor) create() error { return os.WriteFile(e.path(e.fresh()), e.content(), 0o644) }

func (e *editor) deleteFile() error { return os.Remove(e.path(e.pick(false))) }

func (e *editor) deleteDir() error { return os.RemoveAll(e.path(e.pick(true))) }

func (e *editor) renameFile() error { return e.rename(e.pick(false)) }

func (e *editor) renameDir() error { return e.rename(e.pick(true)) }

func (e *editor) rename(from string) error {
	to := e.fresh()
	for strings.HasPrefix(to, from+string(filepath.Separator)) {
		to = e.fresh()
	}
	return os.Rename(e.path(from), e.path(to))
}

func (e *editor) fileToDir() error {
	path := e.path(e.pick(false))
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, "inside"), e.content(), 0o644)
}

func (e *editor) dirToFile() error {
	path := e.path(e.pick(true))
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.WriteFile(path, e.content(), 0o644)
}

// fileToLink leaves something that is not synced: the file is gone.
func (e *editor) fileToLink() error {
	path := e.path(e.pick(false))
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink("nowhere", path)
}

func (e *editor) mode() error {
	modes := []fs.FileMode{0o600, 0o644, 0o755}
	return os.Chmod(e.path(e.pick(false)), modes[e.rng.IntN(len(modes))])
}
