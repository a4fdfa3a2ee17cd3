package storage_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/storage"
)

// Fuzzed files find every source there: a name says what it is.
type anything struct{}

func (anything) Lstat(name string) (fs.FileInfo, error) {
	switch {
	case strings.Contains(name, "missing"):
		return nil, fs.ErrNotExist
	case strings.Contains(name, "link"):
		return entry{name, fs.ModeSymlink}, nil
	case strings.Contains(name, "fifo"):
		return entry{name, fs.ModeNamedPipe}, nil
	case strings.Contains(name, "."):
		return entry{name, 0}, nil
	}
	return entry{name, fs.ModeDir}, nil
}

func (anything) EvalSymlinks(name string) (string, error) {
	return strings.ReplaceAll(name, "link", "real"), nil
}

type entry struct {
	name string
	mode fs.FileMode
}

func (e entry) Name() string       { return filepath.Base(e.name) }
func (e entry) Size() int64        { return 0 }
func (e entry) Mode() fs.FileMode  { return e.mode }
func (e entry) ModTime() time.Time { return time.Time{} }
func (e entry) IsDir() bool        { return e.mode.IsDir() }
func (e entry) Sys() any           { return nil }

// Whatever a file holds: no panic, and either problems that each fit a line, or
// mounts that are ready for use.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"document", "errors"} {
		files, _ := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
	for _, seed := range []string{
		"x: &x {a: b}\nfile_mounts: &f {<<: [*x, *f], /m: {<<: *x, name: bkt}}\n",
		"envs: {A: 1:30, B: 0x1F, C: 1.5e+300, D: , E: !!str 7}\nfile_mounts: {$A: ~/${B}, $C: $D, /$E: ~/x}\n",
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, type: DATASET_RO, config: {mount_cached: {transfers: 4, vfs_write_back: 1s}}}}\n",
		"file_mounts: {/m: {source: gs://b/p, _bucket_sub_path: a, persistent: no}, /n: [a, link, fifo, missing]}\n",
		"workdir: {url: x}\n---\nname: y\n---\n...\n%YAML 1.1\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		task, err := storage.Parse("fuzz.yaml", content, storage.Options{
			Env: func(name string) (string, bool) { return name, name != "D" }, Home: "/home/u", Dir: "/work", Buckets: "/buckets",
			Files: anything{}, Known: func(name string) bool { return name == "known" },
		})
		if err != nil {
			problems, ok := err.(storage.Problems)
			if !ok || len(problems) == 0 || task != nil {
				t.Fatalf("got %v, %v", task, err)
			}
			for _, p := range problems {
				if p.Message == "" || strings.ContainsAny(p.Message+p.Hint, "\n") {
					t.Fatalf("not one line: %q", p)
				}
			}
			return
		}
		seen := make(map[string]bool)
		for _, m := range task.Mounts {
			checkMount(t, m)
			if seen[m.Path] {
				t.Fatalf("two mounts at %s", m.Path)
			}
			seen[m.Path] = true
		}
	})
}

func checkMount(t *testing.T, m storage.Mount) {
	t.Helper()
	if rest := strings.TrimPrefix(m.Path, "~"); m.Path != "~" && (!strings.HasPrefix(rest, "/") || rest != "/" && filepath.Clean(rest) != rest || m.Path == "/") {
		t.Fatalf("mount path %q", m.Path)
	}
	names := make(map[string]bool)
	for _, src := range m.Sources {
		if !filepath.IsAbs(src.Path) || names[src.At] || src.At == ".." || strings.Contains(src.At, "/") {
			t.Fatalf("source %+v", src)
		}
		names[src.At] = true
	}
	switch {
	case m.Mode == storage.Rsync:
		if len(m.Sources) != 1 || m.Store != "" {
			t.Fatalf("plain mount %+v", m)
		}
	case m.Name == "" || m.Location.Scheme != m.Store.Scheme() || m.Location.Bucket == "" || m.External != (m.External && m.Sources == nil):
		t.Fatalf("storage %+v", m)
	}
}
