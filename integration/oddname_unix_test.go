//go:build unix

package integration_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestOddNameWhileWatching shows a name that no manifest can hold soon after it
// appears, and the rest goes on.
func TestOddNameWhileWatching(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "a")
	watch := r.watch(t)
	write(t, filepath.Join(r.source, "bad-\xff-name"), "x")
	waitFor(t, "the odd name in status", func() bool {
		out := r.home.Run(t, "status", r.url).Stdout
		return strings.Contains(out, `bad-\xff-name`)
	})
	stop(t, watch)
}
