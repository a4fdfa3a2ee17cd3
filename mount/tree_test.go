package mount

import (
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// TestCount counts directories as well as files, up to a bound.
func TestCount(t *testing.T) {
	tree := newTree(0)
	for _, p := range []manifest.Path{"top/a/b", "top/c", "beside"} {
		tree.mkdirs(p, 0)
	}
	top := tree.find("top")
	tree.add(top, "file", 0)
	for most, want := range map[int]int{100: 4, 4: 4, 3: 3} {
		if got := top.count(most); got != want {
			t.Errorf("%d of at most %d, want %d", got, most, want)
		}
	}
}
