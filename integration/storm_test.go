package integration_test

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestStorm makes the same edits as TestGoTree in a tree so small that they
// meet: directories that are renamed while files in them change, files that
// become directories and go, names that are taken again at once.
func TestStorm(t *testing.T) {
	for round := range 4 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := newRig(t)
			for i := range 600 { // in directories so small that those that go are no mass deletion
				dir := filepath.Join(r.source, fmt.Sprintf("d%d", i%100))
				write(t, filepath.Join(dir, fmt.Sprintf("f%d", i)), fmt.Sprint("content ", i))
			}
			keepsTree(t, r)
		})
	}
}
