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
	for name, dir := range places(t) {
		t.Run(name, func(t *testing.T) { posix.Programs(t, dir, t.TempDir()) })
	}
}
