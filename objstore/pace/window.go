package pace

import (
	"math"
	"time"
)

const (
	firstLimit = 16.0
	leastLimit = 2.0
	period     = 200 * time.Millisecond // least time over which a rate is measured
	rise       = 1.25                   // what the limit is multiplied by while that pays
	worth      = 0.2                    // share of the added requests that the rate must gain by
	costs      = 0.90                   // a rate that is so much lower than before
	patience   = 10                     // periods that change nothing before one more try
	// perRequest is what a request counts besides its bytes: small objects are
	// a matter of requests, large ones of bytes.
	perRequest = 64 << 10
)

// A window decides how many requests run at a time. It only computes: time
// comes in with the calls.
type window struct {
	limit float64 // requests at a time
	most  float64

	since  time.Time // when the running period began
	work   float64   // moved in it: bytes and perRequest
	ended  int       // requests that ended in it
	scarce bool      // somebody waited for a place in it

	rate   float64   // of the period before
	before float64   // the limit before a rise that is on trial; 0 is no trial
	idle   int       // periods since the limit last changed
	halved time.Time // of the last halving
}

func newWindow(most int) window {
	return window{limit: min(firstLimit, float64(most)), most: float64(most), idle: patience}
}

// size returns how many requests may run.
func (w *window) size() int { return int(w.limit) }

// waited notes that a request found no place.
func (w *window) waited() { w.scarce = true }

// end notes a request that moved bytes and ended at now.
func (w *window) end(now time.Time, bytes int64) {
	if w.since.IsZero() {
		w.since = now
	}
	w.work += float64(bytes) + perRequest
	w.ended++
	if now.Sub(w.since) < period || float64(w.ended) < w.limit {
		return
	}
	if w.scarce {
		w.judge(w.work / now.Sub(w.since).Seconds())
	}
	w.next(now)
}

// judge compares the rate of a period with that of the one before. A rise that
// did not pay is taken back: what more requests do not move, they only delay.
func (w *window) judge(rate float64) {
	switch {
	case w.before > 0 && rate <= w.rate*(1+worth*(w.limit/w.before-1)):
		w.limit, w.before, w.idle = w.before, 0, 0
	case w.before > 0 && w.limit == w.most:
		w.before = 0 // it paid, and that is all there is
	case (w.before > 0 || w.idle >= patience) && w.limit < w.most:
		w.before, w.limit = w.limit, min(w.most, math.Ceil(w.limit*rise))
	case rate < w.rate*costs:
		w.limit, w.idle = w.floor(w.limit/rise), 0
	default:
		w.idle++
	}
	w.rate = rate
}

// floor returns a lower limit that is in bounds.
func (w *window) floor(limit float64) float64 {
	return min(w.most, max(leastLimit, math.Floor(limit)))
}

func (w *window) next(now time.Time) {
	w.since, w.work, w.ended, w.scarce = now, 0, 0, false
}

// throttled notes that the store asked at now for fewer requests, by the answer
// to one that began at began. Answers to requests from before the last halving
// say nothing about what runs since.
func (w *window) throttled(began, now time.Time) {
	if began.Before(w.halved) {
		return
	}
	w.limit, w.before, w.idle, w.halved = w.floor(w.limit/2), 0, 0, now
	w.rate = 0
	w.next(now)
}
