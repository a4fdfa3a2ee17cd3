package integration_test

import (
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

// TestMountPrograms has people's programs work in a mount.
func TestMountPrograms(t *testing.T) {
	r := newRig(t)
	dir := r.mounts(t, 1)[0]
	posix.Programs(t, dir, t.TempDir())
}
