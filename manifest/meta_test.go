package manifest_test

import (
	"io/fs"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// TestTakeMeta reads metadata as skyagent and rclone write it, and leaves what
// is damaged alone.
func TestTakeMeta(t *testing.T) {
	was := manifest.File{Mode: 0o644, MTime: 7}
	for _, c := range []struct {
		name  string
		meta  map[string]string
		mode  fs.FileMode
		mtime int64
	}{
		{"none", nil, 0o644, 7},
		{"both", map[string]string{"mode": "0100755", "mtime": "12.000000034"}, 0o755, 12_000_000_034},
		{"short fraction", map[string]string{"mtime": "12.5"}, 0o644, 12_500_000_000},
		{"no fraction", map[string]string{"mtime": "12"}, 0o644, 12_000_000_000},
		{"long fraction", map[string]string{"mtime": "12.0000000345"}, 0o644, 7},
		{"before 1970", map[string]string{"mtime": "-12.5"}, 0o644, 7},
		{"beyond 64 bits", map[string]string{"mtime": "99999999999999"}, 0o644, 7},
		{"sign in the fraction", map[string]string{"mtime": "12.-5"}, 0o644, 7},
		{"no octal", map[string]string{"mode": "9"}, 0o644, 7},
	} {
		f := was
		f.TakeMeta(c.meta)
		if f.Mode != c.mode || f.MTime != c.mtime {
			t.Errorf("%s: mode %v, time %d, want %v, %d", c.name, f.Mode, f.MTime, c.mode, c.mtime)
		}
	}
}
