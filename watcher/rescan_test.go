package watcher_test

import (
	"testing"
	"time"

	"github.com/skyagent/skyagent/watcher"
)

func TestNextRescan(t *testing.T) {
	for _, c := range []struct {
		remote    bool
		unwatched int
		min, max  time.Duration
		reason    string
	}{
		{false, 0, 9 * time.Minute, 11 * time.Minute, "interval"},
		{false, 1, 30 * time.Second, 30 * time.Second, "limit"},
		{true, 0, 10 * time.Second, 10 * time.Second, "interval"},
		{true, 1, 10 * time.Second, 10 * time.Second, "interval"},
	} {
		if after, reason := watcher.NextRescan(c.remote, c.unwatched); after < c.min || after > c.max || reason != c.reason {
			t.Errorf("%+v: %v, %q", c, after, reason)
		}
	}
	if watcher.Remote(t.TempDir()) {
		t.Error("the local disk is a network file system")
	}
}
