package integration_test

import (
	"path/filepath"
	"testing"
)

// TestMountTwice mounts where something is mounted: it is refused, and what is
// there goes on.
func TestMountTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir, _ := r.mount(t)
	write(t, filepath.Join(dir, "f"), "content")
	for _, storage := range []string{r.url, "s3://" + r.server.NewBucket(t)} {
		wantWords(t, r.home.Run(t, "mount", storage, dir), 1, "unmount it first", "mount "+dir, "mounted already")
	}
	if got := read(t, filepath.Join(dir, "f")); got != "content" {
		t.Errorf("f holds %q", got)
	}
}
