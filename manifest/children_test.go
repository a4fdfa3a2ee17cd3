package manifest_test

import (
	"fmt"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

func TestChildren(t *testing.T) {
	m := manifest.New()
	for _, p := range []manifest.Path{"a", "a-b", "a.x", "a/b", "a/b-c", "a/b/c", "a/b/d/e", "a/b0", "a/z/y", "a0", "b"} {
		m.Put(manifest.File{Path: p})
	}
	for _, c := range []struct{ dir, want manifest.Path }{
		{"", "[a a-b a.x a0 b]"}, {"a", "[a/b a/b-c a/b0]"}, {"a/b", "[a/b/c]"}, {"b", "[]"}, {"none", "[]"},
	} {
		got := []manifest.Path{}
		for f := range m.Children(c.dir) {
			got = append(got, f.Path)
		}
		if fmt.Sprint(got) != string(c.want) {
			t.Errorf("Children(%q) = %v, want %s", c.dir, got, c.want)
		}
	}
}
