//go:build linux

package posix_test

import (
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: runs many programs")
	}
	posix.Programs(t, t.TempDir(), t.TempDir())
}
