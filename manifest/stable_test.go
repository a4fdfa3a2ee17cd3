//go:build unix

package manifest_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestStableReads(t *testing.T) {
	dir := t.TempDir()
	content := strings.Repeat("0123456789", 100_000)
	write(t, content, dir, "d/f")
	s, err := manifest.OpenStable(openRoot(t, dir), "d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Stat().Size != int64(len(content)) {
		t.Errorf("stat is %+v", s.Stat())
	}
	if b, err := s.Content(); err != nil || string(b) != content {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	hash, parts, err := s.Hash(300_000)
	if err != nil || hash != manifest.Sum([]byte(content)) || len(parts) != 4 ||
		parts[0] != manifest.Sum([]byte(content[:300_000])) || parts[3] != manifest.Sum([]byte(content[900_000:])) {
		t.Errorf("got %v, %v, %v", hash, parts, err)
	}
	if hash, parts, err = s.Hash(0); err != nil || hash != manifest.Sum([]byte(content)) || parts != nil {
		t.Errorf("got %v, %v, %v", hash, parts, err)
	}
	if b, err := io.ReadAll(s.Reader()); err != nil || string(b) != content {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

// Whatever happens to a file between the open and the check is noticed, also
// where size and time of modification are put back.
func TestStableNoticesChanges(t *testing.T) {
	const content = "before"
	for name, change := range map[string]func(p string) error{
		"rewritten":     func(p string) error { return os.WriteFile(p, []byte("after!"), 0o644) },
		"same content":  func(p string) error { return os.WriteFile(p, []byte(content), 0o644) },
		"appended":      func(p string) error { return os.WriteFile(p, []byte(content+"."), 0o644) },
		"truncated":     func(p string) error { return os.Truncate(p, 3) },
		"emptied":       func(p string) error { return os.Truncate(p, 0) },
		"removed":       os.Remove,
		"mode":          func(p string) error { return os.Chmod(p, 0o755) },
		"now a symlink": func(p string) error { return errors.Join(os.Rename(p, p+".old"), os.Symlink(p+".old", p)) },
		"now a directory": func(p string) error {
			return errors.Join(os.Remove(p), os.Mkdir(p, 0o755))
		},
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", []byte("after!"), 0o644), os.Rename(p+".new", p))
		},
		"old time": func(p string) error {
			fi, err := os.Stat(p)
			return errors.Join(err, os.WriteFile(p, []byte("after!"), 0o644), os.Chtimes(p, fi.ModTime(), fi.ModTime()))
		},
		"replaced with its twin": func(p string) error {
			fi, err := os.Stat(p)
			return errors.Join(err, os.WriteFile(p+".new", []byte("after!"), 0o644), os.Chtimes(p+".new", fi.ModTime(), fi.ModTime()), os.Rename(p+".new", p))
		},
	} {
		dir := t.TempDir()
		p := write(t, content, dir, "f")
		old := time.Now().Add(-time.Hour)
		os.Chtimes(p, old, old)
		s, err := manifest.OpenStable(openRoot(t, dir), "f")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		if err := change(p); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); !errors.Is(err, manifest.ErrUnstable) {
			t.Errorf("%s: Check: %v", name, err)
		}
		if b, err := s.Content(); !errors.Is(err, manifest.ErrUnstable) {
			t.Errorf("%s: Content: %q, %v", name, b, err)
		}
		if _, _, err := s.Hash(2); !errors.Is(err, manifest.ErrUnstable) {
			t.Errorf("%s: Hash: %v", name, err)
		}
		s.Close()
	}
}

func TestOpenStableRefuses(t *testing.T) {
	outside := write(t, "secret", t.TempDir(), "f")
	dir := t.TempDir()
	write(t, "x", dir, "d/f")
	os.Symlink(outside, filepath.Join(dir, "link"))
	os.Symlink(filepath.Dir(outside), filepath.Join(dir, "away"))
	special(t, dir)
	root := openRoot(t, dir)
	for _, p := range []manifest.Path{"link", "away/f", "d", "fifo", "sock"} {
		opened := make(chan error, 1)
		go func() {
			s, err := manifest.OpenStable(root, p)
			if err == nil {
				s.Close()
			}
			opened <- err
		}()
		select {
		case err := <-opened:
			if err == nil {
				t.Errorf("%s was opened", p)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s blocks", p)
		}
	}
	if _, err := manifest.OpenStable(root, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := manifest.OpenStable(root, "d"); !errors.Is(err, manifest.ErrUnstable) {
		t.Errorf("directory: %v", err)
	}
}

// A symlink at the name itself leads to another file, even inside the root.
func TestOpenStableDoesNotFollow(t *testing.T) {
	dir := t.TempDir()
	write(t, "x", dir, "f")
	os.Symlink("f", filepath.Join(dir, "link"))
	s, err := manifest.OpenStable(openRoot(t, dir), "link")
	if err == nil {
		if _, err = s.Content(); err == nil {
			t.Error("the file behind a symlink was read as the symlink's")
		}
		s.Close()
	}
	if !errors.Is(err, manifest.ErrUnstable) {
		t.Errorf("got %v", err)
	}
}

func TestHashReader(t *testing.T) {
	content := bytes.Repeat([]byte("abcdefg"), 100_000)
	for _, part := range []int64{0, 1 << 10, 700_000, 1 << 30} {
		hash, parts, err := manifest.HashReader(iotest.HalfReader(bytes.NewReader(content)), part)
		want := 0
		if part > 0 {
			want = (len(content) + int(part) - 1) / int(part)
		}
		if err != nil || hash != manifest.Sum(content) || len(parts) != want {
			t.Errorf("part %d: got %v, %d parts, %v", part, hash, len(parts), err)
		}
	}
	if hash, parts, err := manifest.HashReader(strings.NewReader(""), 5); err != nil || hash != manifest.Sum(nil) || len(parts) != 0 {
		t.Errorf("nothing: got %v, %d parts, %v", hash, len(parts), err)
	}
	broken := errors.New("broken")
	if _, _, err := manifest.HashReader(iotest.ErrReader(broken), 0); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestPartSize(t *testing.T) {
	for _, c := range []struct{ size, before, want int64 }{
		{0, 0, 0}, {16<<20 - 1, 0, 0}, {16 << 20, 0, 8 << 20}, {10 << 30, 0, 8 << 20}, {62 << 30, 0, 8 << 20}, {63 << 30, 0, 16 << 20}, {5 << 40, 0, 1 << 30},
		{63 << 30, 8 << 20, 8 << 20}, {71 << 30, 8 << 20, 16 << 20}, {1 << 30, 64 << 20, 64 << 20}, {1 << 20, 8 << 20, 0},
	} {
		got := manifest.PartSize(c.size, c.before)
		if got != c.want {
			t.Errorf("%d after parts of %d: got %d, want %d", c.size, c.before, got, c.want)
		}
		if got > 0 && (c.size+got-1)/got > 9000 {
			t.Errorf("%d: %d parts", c.size, (c.size+got-1)/got)
		}
	}
}

func TestStatFresh(t *testing.T) {
	now := time.Unix(1_700_000_000, 500_000_000)
	for _, c := range []struct {
		name  string
		mtime time.Time
		ctime time.Time
		want  bool
	}{
		{"long ago", now.Add(-time.Hour), now.Add(-time.Hour), false},
		{"just now", now.Add(-10 * time.Millisecond), now.Add(-10 * time.Millisecond), true},
		{"renamed just now", now.Add(-time.Hour), now.Add(-time.Millisecond), true},
		{"a second ago", now.Add(-time.Second + time.Nanosecond), now.Add(-time.Second + time.Nanosecond), false},
		{"a second ago, whole seconds", now.Truncate(time.Second).Add(-time.Second), now.Truncate(time.Second).Add(-time.Second), true},
		{"in the future", now.Add(time.Hour), now, true},
	} {
		s := manifest.Stat{MTime: c.mtime.UnixNano(), CTime: c.ctime.UnixNano()}
		if got := s.Fresh(now); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
	if runtime.GOOS == "linux" {
		fi, err := os.Lstat(write(t, "x", t.TempDir(), "f"))
		if err != nil || !manifest.StatOf(fi).Fresh(time.Now()) {
			t.Errorf("a file just written is not fresh: %+v, %v", manifest.StatOf(fi), err)
		}
	}
}
