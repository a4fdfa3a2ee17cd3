//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhyOdd asks about names that only a file system takes, and about links:
// buckets have neither, a plain mount has both.
func TestWhyOdd(t *testing.T) {
	t.Setenv("SKYAGENT_HOME", t.TempDir())
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"data/\xff/x", "data/sub/.skyagent/x", "data/.skyagent", "data/.git/HEAD"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"data/link": "sub", "way": "data"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	places, err := findPlaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, bucket, plain string
	}{
		{"data/\xff", "not synced, its name is not valid UTF-8", "synced"},
		{"data/\xff/x", `not synced, the name of "DIR/data/\xff" is not valid UTF-8`, "synced"},
		{"data/.skyagent", "not synced, its name is skyagent's own", "synced"},
		{"data/sub/.skyagent/x", "synced", "synced"},
		{"data/link", "not synced, it is a symbolic link", "synced"},
		{"data/link/.skyagent", "not synced, DIR/data/link is a symbolic link", "not synced, DIR/data/link is a symbolic link"},
		{"data/.git/HEAD", `ignored with DIR/data/.git by the built-in rule ".git"`, "synced"},
		{"way/sub", "synced", "synced"},
	} {
		for _, plain := range []bool{false, true} {
			record := agentRecord{Roots: []rootRecord{{Path: filepath.Join(dir, "data"), Plain: plain}}}
			record.PID = os.Getpid()
			if err := writeRecord(filepath.Join(places.run, "agents", "1.json"), record); err != nil {
				t.Fatal(err)
			}
			want, code := c.bucket, exitDone
			if plain {
				want = c.plain
			}
			if want != "synced" {
				code = exitPartly
			}
			var out, said bytes.Buffer
			got := run(t.Context(), []string{"why", filepath.Join(dir, c.path)}, nil, &out, &said)
			line, rest, _ := strings.Cut(out.String(), "\n")
			if line = strings.ReplaceAll(line, dir, "DIR"); got != code || !strings.HasSuffix(line, ": "+want) {
				t.Errorf("%q, plain %v: exit %d, %s\nwant %s\n%s", c.path, plain, got, line, want, &said)
			}
			if !strings.Contains(rest, "data, which a watch keeps in step") {
				t.Errorf("%q: the source is not named: %s", c.path, rest)
			}
		}
	}
}
