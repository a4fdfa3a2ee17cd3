package hosts

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPause shows that news end the pause after a failure of some paths alone, and
// no other pause.
func TestPause(t *testing.T) {
	for _, partly := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := &link{wake: make(chan struct{}, 1), retry: time.Minute, partly: partly}
			began := time.Now()
			l.rouse()
			l.pause(t.Context())
			if waited := time.Since(began) > 0; waited == partly {
				t.Errorf("partly %v: it took %s", partly, time.Since(began))
			}
		})
	}
}
