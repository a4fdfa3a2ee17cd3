package watcher

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The reasons of a Rescan, the weakest first: of two that are due together the
// stronger one is told.
const (
	reasonInterval = "interval"
	reasonName     = "name"
	reasonTracked  = "tracked"
	reasonRules    = "rules"
	reasonLimit    = "limit"
	reasonError    = "error"
	reasonOverflow = "overflow"
	reasonStart    = "start"
	reasonRoot     = "root"
)

var byStrength = []string{"", reasonInterval, reasonName, reasonTracked, reasonRules, reasonLimit, reasonError, reasonOverflow, reasonStart, reasonRoot}

func stronger(a, b string) string {
	if slices.Index(byStrength, a) >= slices.Index(byStrength, b) {
		return a
	}
	return b
}

// A schedule says when the tree is looked at as a whole: at times, and sooner
// when something was lost. It belongs to the keeper.
type schedule struct {
	timing  Timing
	last    time.Time     // when it was looked at
	regular float64       // jitter of the next regular rescan, near 1
	pending string        // reason of a rescan that was asked for, or ""
	rules   bool          // rules have settled since the tree was looked at
	from    time.Time     // pending is not due before
	gap     time.Duration // between rescans that are asked for
	asked   time.Time     // when one of those was last done; zero before the first
}

func newSchedule(t Timing, at time.Time) *schedule {
	s := &schedule{timing: t}
	s.looked(at)
	return s
}

// ask makes a rescan due: at once, or after a wait that doubles while they come
// one after the other, because on a large tree the rescans themselves would be
// what loses events.
func (s *schedule) ask(reason string, at time.Time) {
	s.pending = stronger(s.pending, reason)
	if reason == reasonRules { // people change them, and wait for that
		s.rules = true
		if first := s.last.Add(s.timing.RescanMin); first.After(at) {
			at = first
		}
		if s.from.IsZero() || at.Before(s.from) {
			s.from = at
		}
		return
	}
	if !s.from.IsZero() {
		return
	}
	s.from = at
	if s.asked.IsZero() || at.Sub(s.asked) > 2*s.gap {
		s.gap = 0
		return
	}
	if next := s.asked.Add(s.gap); next.After(at) {
		s.from = next
	}
}

// next returns when the tree is to be looked at, and why.
func (s *schedule) next(t *tree) (time.Time, string) {
	at, reason := s.last.Add(time.Duration(float64(s.timing.Interval)*s.regular)), reasonInterval
	if next := s.last.Add(s.timing.Remote); t.remote && next.Before(at) {
		at = next
	}
	if next := s.last.Add(s.timing.Limited); t.unwatched() > 0 && next.Before(at) {
		at, reason = next, reasonLimit
	}
	if s.pending != "" && s.from.Before(at) {
		at, reason = s.from, s.pending
	}
	return at, reason
}

// looked notes that the whole tree is being looked at.
func (s *schedule) looked(at time.Time) {
	s.last, s.regular = at, 0.9+0.2*rand.Float64()
	if s.pending != "" && s.pending != reasonRules {
		s.asked = at
		s.gap = min(max(2*s.gap, s.timing.RescanMin), s.timing.RescanMax)
	}
	s.pending, s.from, s.rules = "", time.Time{}, false
}
