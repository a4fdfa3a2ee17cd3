package integration_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

// tree lists all that lies below dir, directories with a slash.
func tree(dir string) (names []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			name, _ := filepath.Rel(dir, path)
			if d.IsDir() {
				name += "/"
			}
			names = append(names, name)
		}
		return nil
	})
	return names
}

// waitTree waits until dir holds exactly what is wanted.
func waitTree(t *testing.T, what, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	took := waitFor(t, what, func() bool {
		got := tree(dir)
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() any { return tree(dir) })
	t.Logf("%s: %v", what, took)
}

// TestMountMovesDirs renames directories that a watch made, that a mount made,
// and that only objects of strangers imply: nothing is left of their old names
// on another mount.
func TestMountMovesDirs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "saved/sub/f"), "saved")
	must(t, os.MkdirAll(filepath.Join(r.source, "saved/empty/below"), 0o755))
	stranger(t, r.store(t), "strange/sub/f", "strange")
	watch := r.watch(t, "--nats", nats.URL)
	stop(t, watch)
	a, _ := r.mount(t, "--nats", nats.URL)
	b, _ := r.mount(t, "--nats", nats.URL)
	r.waitMounts(t, 2, nats.URL)
	write(t, filepath.Join(a, "made/sub/f"), "made")
	must(t, os.MkdirAll(filepath.Join(a, "made/empty/below"), 0o755))
	before := []string{"made/", "made/empty/", "made/empty/below/", "made/sub/", "made/sub/f",
		"saved/", "saved/empty/", "saved/empty/below/", "saved/sub/", "saved/sub/f", "strange/", "strange/sub/", "strange/sub/f"}
	waitTree(t, "what there was", b, before...)
	var after []string
	for _, name := range []string{"saved", "made", "strange"} {
		must(t, os.Rename(filepath.Join(a, name), filepath.Join(a, "m-"+name)))
	}
	for _, name := range before {
		after = append(after, "m-"+name)
	}
	waitTree(t, "what was moved", a, after...)
	waitTree(t, "what was moved, on the other mount", b, after...)
}

// TestMountDirsOfStrangers empties directories in the bucket itself: those go
// from a mount that looks, up to the first that something speaks for.
func TestMountDirsOfStrangers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	store := r.store(t)
	must(t, os.MkdirAll(filepath.Join(r.source, "saved/empty"), 0o755))
	write(t, filepath.Join(r.source, "saved/full/f"), "saved")
	stop(t, r.watch(t))
	for _, key := range []string{"str/x/deep/1", "str/y/2", "alone/1"} {
		stranger(t, store, key, "strange")
	}
	dir, _ := r.mount(t, "--reconcile", "1h")
	must(t, os.Mkdir(filepath.Join(dir, "made"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "kept"), 0o755))
	r.home.MustRun(t, "mount", "flush", dir)
	waitTree(t, "what there was", dir, "alone/", "alone/1", "kept/", "made/", "saved/", "saved/empty/", "saved/full/", "saved/full/f",
		"str/", "str/x/", "str/x/deep/", "str/x/deep/1", "str/y/", "str/y/2")

	must(t, store.Delete(t.Context(), "str/x/deep/1", "alone/1", "made/", "saved/full/f"))
	r.home.MustRun(t, "refresh", filepath.Join(dir, "str"))
	waitTree(t, "what is left of one directory", filepath.Join(dir, "str"), "y/", "y/2")
	r.home.MustRun(t, "refresh", dir)
	waitTree(t, "what is left", dir, "kept/", "saved/", "saved/empty/", "saved/full/", "str/", "str/y/", "str/y/2")
}
