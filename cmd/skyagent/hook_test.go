//go:build unix

package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// A command that leaves a process behind which never reads its input does not
// keep us from leaving.
func TestHookLeavesWithoutGrandchildren(t *testing.T) {
	h := newHook("sleep 20; true", t.TempDir(), newUI(io.Discard, io.Discard))
	long := manifest.Path(strings.Repeat("x", 1000))
	done := syncer.Applied{}
	for range 1000 { // more than a pipe holds
		done.Changes = append(done.Changes, long)
	}
	h.applied(done)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- h.runOnce(ctx) }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a command that was killed gives no error")
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the hook waits for a process that its command left behind")
	}
}
