package manifest_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

func TestParsePath(t *testing.T) {
	good := []string{"a", "a/b", "a b", "…/ü", ".hidden", "a/.skyagent", ".skyagents", "a\\b", "..a", "a/...", strings.Repeat("d/", 1000) + "f"}
	for _, s := range good {
		if p, err := manifest.ParsePath(s); err != nil || string(p) != s {
			t.Errorf("ParsePath(%q) = %q, %v", s, p, err)
		}
	}
	bad := []string{"", ".", "..", "../a", "a/..", "a/../b", "/a", "a/", "a//b", "./a", "a/.", "a\x00b", "\xff", "a/\xc3", ".skyagent", ".skyagent/x", ".skyagent/sources/main/lease"}
	for _, s := range bad {
		if p, err := manifest.ParsePath(s); err == nil {
			t.Errorf("ParsePath(%q) = %q, want an error", s, p)
		}
	}
}

func TestPathParts(t *testing.T) {
	for _, c := range []struct{ path, dir, base, top manifest.Path }{
		{"a", "", "a", "a"},
		{"a/b", "a", "b", "a"},
		{"a/b/c.txt", "a/b", "c.txt", "a"},
	} {
		if c.path.Dir() != c.dir || c.path.Base() != string(c.base) || c.path.Top() != string(c.top) {
			t.Errorf("%q: got %q, %q, %q", c.path, c.path.Dir(), c.path.Base(), c.path.Top())
		}
		if got := c.path.Dir().Join(c.path.Base()); got != c.path {
			t.Errorf("%q taken apart and joined is %q", c.path, got)
		}
	}
}

func TestPathWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir manifest.Path
		want      bool
	}{
		{"a", "", true},
		{"a/b", "a", true},
		{"a/b/c", "a", true},
		{"a", "a", false},
		{"ab", "a", false},
		{"a-/b", "a", false},
		{"a", "a/b", false},
	} {
		if got := c.path.Within(c.dir); got != c.want {
			t.Errorf("%q within %q: got %v", c.path, c.dir, got)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		dir  manifest.Path
		name string
		typ  fs.FileMode
		want manifest.Skip
	}{
		{"", "f", 0, ""},
		{"d", "f", fs.ModeDir, ""},
		{"", ".skyagent", fs.ModeDir, manifest.SkipReserved},
		{"d", ".skyagent", fs.ModeDir, ""},
		{"", "l", fs.ModeSymlink, manifest.SkipSymlink},
		{"", "p", fs.ModeNamedPipe, manifest.SkipSpecial},
		{"", "s", fs.ModeSocket, manifest.SkipSpecial},
		{"", "c", fs.ModeDevice | fs.ModeCharDevice, manifest.SkipSpecial},
		{"", "\xff", 0, manifest.SkipName},
	} {
		p, why := manifest.Classify(c.dir, c.name, c.typ)
		if why != c.want || (why == "") != (p == c.dir.Join(c.name)) {
			t.Errorf("%q in %q: got %q, %q, want %q", c.name, c.dir, p, why, c.want)
		}
	}
}

// TestConflict wants a name that stores take beside every name that they take.
func TestConflict(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 30, 15, 250e6, time.UTC)
	const suffix = ".skyagent-conflict-20260701T123015.250Z"
	deep := strings.Repeat("d/", 480)
	for _, tc := range []struct{ path, want string }{
		{"a", "a" + suffix},
		{"dir/a.bin", "dir/a.bin" + suffix},
		{"dir/" + strings.Repeat("n", 225), "dir/" + strings.Repeat("n", 255-len(suffix)) + suffix},
		{strings.Repeat("é", 120), strings.Repeat("é", 108) + suffix},
		{deep + strings.Repeat("n", 64), deep + strings.Repeat("n", 1024-len(deep)-len(suffix)) + suffix},
	} {
		if got := manifest.Path(tc.path).Conflict(at); string(got) != tc.want {
			t.Errorf("conflict of %q is %q, want %q", tc.path, got, tc.want)
		}
	}
}
