package main

import (
	"testing"
	"time"

	"github.com/skyagent/skyagent/bus"
)

// A task is done when its workers said good-bye, not when they died.
func TestAttendance(t *testing.T) {
	start := time.Now()
	worker := func(id string, spoke time.Duration) bus.Presence {
		return bus.Presence{ID: id, Role: "copy", Seen: start.Add(spoke)}
	}
	watch := bus.Presence{ID: "watch", Role: "watch"}
	type look struct {
		at   time.Duration
		who  []bus.Presence
		done bool
	}
	for name, looks := range map[string][]look{
		"nobody came":  {{0, []bus.Presence{watch}, false}, {time.Hour, nil, false}},
		"one left":     {{0, []bus.Presence{watch, worker("a", 0)}, false}, {10 * time.Second, nil, false}, {16 * time.Second, nil, true}},
		"one restarts": {{0, []bus.Presence{worker("a", 0)}, false}, {10 * time.Second, nil, false}, {12 * time.Second, []bus.Presence{worker("a", 12*time.Second)}, false}, {16 * time.Second, nil, false}, {18 * time.Second, nil, false}},
		"one stays":    {{0, []bus.Presence{worker("a", 0), worker("b", 0)}, false}, {10 * time.Second, []bus.Presence{worker("b", 0)}, false}, {20 * time.Second, []bus.Presence{worker("b", 0)}, false}},
		"one died":     {{0, []bus.Presence{worker("a", 0)}, false}, {59 * time.Second, []bus.Presence{worker("a", 0)}, false}, {61 * time.Second, nil, false}, {time.Hour, nil, false}},
		"one died and came back": {{0, []bus.Presence{worker("a", 0)}, false}, {61 * time.Second, nil, false},
			{70 * time.Second, []bus.Presence{worker("a", 70*time.Second)}, false}, {80 * time.Second, nil, false}, {86 * time.Second, nil, true}},
	} {
		a := newAttendance()
		for _, l := range looks {
			if done := a.look(l.who, start.Add(l.at)); done != l.done {
				t.Errorf("%s: after %s done is %v", name, l.at, done)
			}
		}
	}
}
