package syncer_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
	"github.com/skyagent/skyagent/syncer"
)

// A rig is a source, a bucket and a replica in temporary directories.
type rig struct {
	t       testing.TB
	store   objstore.Store
	memory  *storetest.Memory
	source  string
	replica string
	state   string
}

func newRig(t testing.TB) *rig {
	memory := storetest.NewMemory()
	return &rig{t: t, store: memory, memory: memory, source: t.TempDir(), replica: t.TempDir(), state: t.TempDir()}
}

func (r *rig) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (r *rig) options() syncer.SourceOptions {
	return syncer.SourceOptions{
		Root: r.source, Store: r.store, Source: "main", Index: filepath.Join(r.state, "source.index"),
		Storage: "test", Writer: "writer-1", Public: []byte("key"), Host: "here", Log: r.log(),
	}
}

// sync makes one pass and returns its status.
func (r *rig) sync(change ...func(*syncer.SourceOptions)) (syncer.SourceStatus, error) {
	opt := r.options()
	for _, c := range change {
		c(&opt)
	}
	s := syncer.NewSource(opt)
	err := s.Sync(r.t.Context())
	return s.Status(), err
}

func (r *rig) mustSync() syncer.SourceStatus {
	r.t.Helper()
	status, err := r.sync()
	if err != nil {
		r.t.Fatal(err)
	}
	return status
}

func (r *rig) mustCopy() syncer.ReplicaStatus {
	r.t.Helper()
	c := syncer.NewReplica(r.replicaOptions())
	if err := c.Copy(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return c.Status()
}

func (r *rig) replicaOptions() syncer.ReplicaOptions {
	return syncer.ReplicaOptions{
		Dir: r.replica, Store: r.store, Source: "main",
		Index: filepath.Join(r.state, "replica.index"), Log: r.log(), Poll: 50 * time.Millisecond,
	}
}

func (r *rig) write(name, content string) {
	r.t.Helper()
	p := filepath.Join(r.source, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// tree describes every regular file and directory below dir.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if rel == manifest.Reserved {
			return fs.SkipDir
		}
		if err != nil || rel == "." || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", fi.Mode(), rel)
		if d.Type().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %s", fi.ModTime().UnixNano(), manifest.Sum(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (r *rig) checkSame() {
	r.t.Helper()
	if got, want := tree(r.t, r.replica), tree(r.t, r.source); got != want {
		r.t.Fatalf("replica is\n%s\nsource is\n%s", got, want)
	}
}

func TestSyncThenCopy(t *testing.T) {
	r := newRig(t)
	r.write("a.txt", "hello")
	r.write("dir/b.txt", "world")
	r.write("dir/deep/empty", "")
	os.Mkdir(filepath.Join(r.source, "void"), 0o700)
	os.Symlink("a.txt", filepath.Join(r.source, "link"))
	r.write("dir/big", strings.Repeat("0123456789abcdef", 3<<20/2))
	os.Chmod(filepath.Join(r.source, "a.txt"), 0o755)

	st := r.mustSync()
	if st.UploadedFiles != 4 || len(st.Skipped) != 1 {
		t.Fatalf("status is %+v", st)
	}
	r.mustCopy()
	r.checkSame()

	gets := r.mustCopy()
	if gets.FetchedFiles != 0 {
		t.Errorf("second copy fetched %d files", gets.FetchedFiles)
	}
	st = r.mustSync()
	if st.UploadedFiles != 0 || st.Commits != 0 {
		t.Errorf("second sync uploaded %d files in %d commits", st.UploadedFiles, st.Commits)
	}
}

func TestTypeChangesRenamesAndDeletions(t *testing.T) {
	r := newRig(t)
	r.write("file", "becomes a directory")
	r.write("dir/x", "one")
	r.write("dir/y/z", "two")
	r.write("old", "renamed content")
	r.write("gone/a", "g")
	r.mustSync()
	r.mustCopy()
	r.checkSame()

	os.Remove(filepath.Join(r.source, "file"))
	r.write("file/inner", "was a file")
	os.RemoveAll(filepath.Join(r.source, "dir"))
	r.write("dir", "was a directory")
	os.Rename(filepath.Join(r.source, "old"), filepath.Join(r.source, "new"))
	os.RemoveAll(filepath.Join(r.source, "gone"))
	st := r.mustSync()
	if st.CopiedFiles != 1 {
		t.Errorf("renamed file: %d copies inside the store, want 1", st.CopiedFiles)
	}
	got := r.mustCopy()
	r.checkSame()
	if got.ReusedBytes != int64(len("renamed content")) {
		t.Errorf("reused %d bytes", got.ReusedBytes)
	}
	for _, k := range r.memory.Keys() {
		if strings.HasPrefix(k, "gone/") || k == "old" || k == "file" {
			t.Errorf("object %s is still there", k)
		}
	}
}

// A feed hands out batches that a test sends.
type feed chan manifest.Batch

func (f feed) Next(ctx context.Context) (manifest.Batch, error) {
	select {
	case b := <-f:
		return b, nil
	case <-ctx.Done():
		return manifest.Batch{}, ctx.Err()
	}
}
