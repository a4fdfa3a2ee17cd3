package mounter_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/mounter"
	"github.com/skyagent/skyagent/objstore"
)

// A geese is what GeeseFS does with the attribute: names that it does not know
// are not there.
type geese struct {
	t     *testing.T
	dir   string
	known []string // paths in the mount; "" is its root
	told  []string
	fails map[string]error
}

func (g *geese) setxattr(path, name string, value []byte) error {
	rel, err := filepath.Rel(g.dir, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		g.t.Errorf("attribute of %s, outside the mount", path)
	}
	if rel = filepath.ToSlash(rel); rel == "." {
		rel = ""
	}
	if name != ".invalidate" || len(value) != 0 {
		g.t.Errorf("%s gets %s=%q", path, name, value)
	}
	if err := g.fails[rel]; err != nil {
		return err
	}
	if !slices.Contains(g.known, rel) {
		return syscall.ENOENT
	}
	g.told = append(g.told, rel)
	return nil
}

// GeeseFS is told of a path that it knows, or else of the nearest directory above,
// once.
func TestGeeseFS(t *testing.T) {
	for _, tc := range []struct {
		name         string
		paths        []manifest.Path
		known, wants []string
	}{
		{"known", []manifest.Path{"a/b"}, []string{"", "a", "a/b"}, []string{"a/b"}},
		{"new in a known directory", []manifest.Path{"a/b"}, []string{"", "a"}, []string{"a"}},
		{"new in new directories", []manifest.Path{"a/b/c/d"}, []string{"", "a"}, []string{"a"}},
		{"new at the top", []manifest.Path{"a"}, []string{""}, []string{""}},
		{"many new, told once", []manifest.Path{"a/1", "a/2", "a/b/3", "c"}, []string{"", "a", "c"}, []string{"a", "c"}},
		{"twice", []manifest.Path{"c", "c"}, []string{"", "c"}, []string{"c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &geese{t: t, dir: t.TempDir(), known: tc.known}
			if err := g.refresh(t.Context(), tc.paths); err != nil {
				t.Error(err)
			}
			if !slices.Equal(g.told, tc.wants) {
				t.Errorf("told were %q, want %q", g.told, tc.wants)
			}
		})
	}
	g := &geese{t: t, dir: t.TempDir(), fails: map[string]error{"a": syscall.EACCES}}
	if err := g.refresh(t.Context(), []manifest.Path{"a"}); !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.refresh(ctx, []manifest.Path{"b"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func (g *geese) refresh(ctx context.Context, paths []manifest.Path) error {
	cfg := mounter.Config{Kind: mounter.GeeseFS, Location: location(g.t, "s3://b"), Dir: g.dir, Setxattr: g.setxattr}
	return mounter.RefreshNow(ctx, g.t, cfg, paths)
}

func location(t *testing.T, url string) objstore.Location {
	t.Helper()
	at, err := objstore.ParseLocation(url)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// What cannot be refreshed says so, and why.
func TestNoRefresh(t *testing.T) {
	for kind, url := range map[mounter.Kind]string{mounter.GCSFuse: "gs://b", mounter.MountpointS3: "s3://b"} {
		cfg := mounter.Config{Kind: kind, Location: location(t, url), Dir: t.TempDir()}
		err := mounter.RefreshNow(t.Context(), t, cfg, []manifest.Path{"a"})
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "offers no refresh") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestExec(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its commands are a shell's")
	}
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	cfg := mounter.Config{Kind: mounter.Exec, Dir: dir, Command: `{ pwd; echo "$WHAT"; cat; } > ` + out, Env: []string{"WHAT=env"}}
	m, err := mounter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	<-m.Ready()
	if err := m.Refresh(t.Context(), []manifest.Path{"a b", "c/d"}); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(out)
	if want := dir + "\nenv\na b\nc/d\n"; err != nil || string(b) != want {
		t.Errorf("got %q, %v, want %q", b, err, want)
	}
	cfg.Command = "echo why it fails >&2; exit 3"
	if err := mounter.RefreshNow(t.Context(), t, cfg, []manifest.Path{"a"}); err == nil || !strings.Contains(err.Error(), "why it fails") {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  mounter.Config
		want string
	}{
		{"an unknown kind", mounter.Config{Kind: "s3fs"}, "not one of rclone, geesefs"},
		{"exec without a command", mounter.Config{Kind: mounter.Exec}, "no command"},
		{"rclone without state", mounter.Config{Kind: mounter.Rclone}, "no directory"},
		{"a bad remote control", mounter.Config{Kind: mounter.Rclone, Remote: "::"}, "remote control"},
		{"another store's bucket", mounter.Config{Kind: mounter.GCSFuse, Location: location(t, "s3://b")}, "mounts no s3"},
		{"R2 without an endpoint", mounter.Config{Kind: mounter.Rclone, State: "x", Location: location(t, "r2://b")}, "endpoint"},
		{"R2 without credentials", mounter.Config{Kind: mounter.Rclone, State: "x", Location: location(t, "r2://b?endpoint=https://x")}, "credentials"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := mounter.New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestNotMounted(t *testing.T) {
	m, err := mounter.New(mounter.Config{Kind: mounter.Exec, Command: "true", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Refresh(t.Context(), []manifest.Path{"a"}); !errors.Is(err, mounter.ErrNotMounted) {
		t.Errorf("got %v", err)
	}
	if err := m.Refresh(t.Context(), nil); err != nil {
		t.Errorf("nothing to refresh: %v", err)
	}
}
