package main

import (
	"context"
	"time"

	"github.com/skyagent/skyagent/bus"
)

const (
	attendanceLook  = 2 * time.Second
	attendanceGrace = 5 * time.Second // without any worker, before a task is done: one may be restarting
	// wordless is how old a worker's last word is when it vanishes without a
	// good-bye: it speaks every 20 s, and is forgotten after a minute.
	wordless = 45 * time.Second
)

// An attendance tells a task that is done from workers that are in trouble: a
// worker that leaves says good-bye, and one that dies is forgotten a minute
// after its last word.
type attendance struct {
	present map[string]word
	lost    map[string]bool // died, and did not come back
	came    bool            // any worker ever
	empty   time.Time       // since when nobody is there; zero while somebody is
}

// A word is what a worker said last.
type word struct {
	seen  time.Time // by its clock
	heard time.Time // by ours
}

func newAttendance() *attendance {
	return &attendance{present: make(map[string]word), lost: make(map[string]bool)}
}

// look takes who is there now, and reports whether workers have come and all of
// them have said good-bye.
func (a *attendance) look(members []bus.Presence, now time.Time) bool {
	was := a.present
	a.present = make(map[string]word)
	for _, m := range members {
		if !m.IsWorker() {
			continue
		}
		w, known := was[m.ID]
		if !known || !w.seen.Equal(m.Seen) {
			w = word{m.Seen, now}
		}
		a.present[m.ID] = w
		a.came = true
		delete(a.lost, m.ID)
	}
	for id, w := range was {
		if _, still := a.present[id]; !still && now.Sub(w.heard) > wordless {
			a.lost[id] = true
		}
	}
	if !a.came || len(a.present)+len(a.lost) > 0 {
		a.empty = time.Time{}
		return false
	}
	if a.empty.IsZero() {
		a.empty = now
	}
	return now.Sub(a.empty) >= attendanceGrace
}

// A workersLine is what watch --until-done --json prints when workers come or
// leave.
type workersLine struct {
	Storage string `json:"storage"`
	Workers int    `json:"workers"`
}

// untilDone makes the part leave when its workers have.
func (pt *part) untilDone(ctx context.Context) error {
	a, told := newAttendance(), 0
	tick := time.NewTicker(attendanceLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		members, err := pt.conn.Members(ctx, pt.target.token())
		if err != nil {
			continue // nobody has left because we do not hear of them
		}
		done := a.look(members, time.Now())
		if n := len(a.present); n != told {
			told = n
			pt.p.ui.say("%s: %s", pt.target.name, plural(n, "worker"))
			pt.p.ui.record(workersLine{pt.target.name, n})
		}
		if done {
			pt.done.Store(true)
			pt.leave("all workers have left")
			return nil
		}
	}
}
