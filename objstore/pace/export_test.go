package pace

import "time"

// A Window is a window that a test drives with a clock of its own.
type Window struct{ w window }

// NewWindow returns a window of at most so many.
func NewWindow(most int) *Window { return &Window{newWindow(most)} }

// Size returns how many requests may run.
func (w *Window) Size() int { return w.w.size() }

// Full notes that somebody waits.
func (w *Window) Full() { w.w.waited() }

// End notes a request that ended.
func (w *Window) End(now time.Time, bytes int64) { w.w.end(now, bytes) }

// Throttled notes an answer that asks to slow down.
func (w *Window) Throttled(began, now time.Time) { w.w.throttled(began, now) }
