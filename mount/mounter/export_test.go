package mounter

import (
	"context"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// RefreshNow refreshes a mount that was never run.
func RefreshNow(ctx context.Context, t *testing.T, cfg Config, paths []manifest.Path) error {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.setMounted(true)
	return m.Refresh(ctx, paths)
}
