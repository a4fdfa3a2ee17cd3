package mount

import (
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// TestTrustEndsAtOnce hears of a loss while what was missed before is being read:
// the tree is not trusted for a moment.
func TestTrustEndsAtOnce(t *testing.T) {
	m, _ := mounted(t, func(store objstore.Store) objstore.Store { return store })
	m.early.release(m.hear)
	losses := m.lost()
	m.Hear(News{Lost: true}) // while that is read
	m.beginTrust(losses)
	if m.trust.Load() {
		t.Error("trusted although more was missed")
	}
	m.beginTrust(m.lost())
	if !m.trust.Load() {
		t.Error("not trusted when all is read")
	}
	m.Hear(News{Lost: true})
	if m.trust.Load() {
		t.Error("trusted after a loss")
	}
}
