package mount

import (
	"log/slog"
	"strings"
	"testing"
)

// TestModelMet runs what went wrong once, each as short as it could be made.
func TestModelMet(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		kind   modelKind
		script string
	}{
		{"cut while it is kept beside", modelKind{writeBack: true, bus: true}, `
			mkdir e
			store put e/ ok
			open 1 e/b c
			theirs put e/b told
			close 1
			store put e/b ok
			store head e/b ok
			store head e/b ok
			open 2 e/b t`},
		{"cut by name while a close waits", modelKind{writeBack: true}, `
			open 1 b c
			close 1
			truncate b 1`},
		{"answer lost, then renamed", modelKind{forgetful: true}, `
			open 1 b c
			open 2 b c
			close 2
			store put b lost
			rename b a`},
		{"answer lost, then renamed in the next attempt", modelKind{writeBack: true, bus: true, forgetful: true}, `
			mkdir e
			store put e/ ok
			open 1 e/b c
			close 1
			store put e/b lost
			rename e/b a
			store put e/b clashed`},
		{"answer lost, renamed and replaced", modelKind{}, `
			mkdir e
			store put e/ ok
			open 1 a c
			open 2 e/b c
			open 3 e/b c
			close 2
			store put e/b lost
			rename e/b b
			rename a b
			close 3
			store head e/b clashed`},
		{"answer lost, then no look", modelKind{bus: true}, `
			open 1 b c
			close 1
			store put b lost
			store put b ok
			store head b failed
			store head b lost`},
		{"answer to a mode lost, then renamed", modelKind{bus: true, forgetful: true}, `
			open 1 a c
			close 1
			store put a ok
			chmod a 38
			sleep 40s
			store copy a lost
			rename a b`},
		{"removed before it was there, others came late", modelKind{bus: true, forgetful: true}, `
			open 1 a c
			theirs put a untold
			close 1
			unlink a
			sleep 40s`},
		{"others in the way, and gone", modelKind{writeBack: true, forgetful: true}, `
			open 1 b c
			close 1
			theirs put b untold
			store put b ok
			theirs delete b told`},
		{"others in the way of a rename", modelKind{forgetful: true}, `
			open 1 a c
			close 1
			store put a ok
			mkdir d
			rename a d/a
			theirs put d/a untold
			sleep 40s`},
		{"others took it away between two renames", modelKind{writeBack: true, bus: true, bare: true}, `
			mkdir e
			store put e/ ok
			mkdir d
			open 1 e/b c
			sync 1
			store put e/b ok
			theirs put e/b untold
			rename e/b d/a
			rename d/a a`},
		{"others wrote before the next life", modelKind{writeBack: true}, `
			mkdir d
			open 1 d/a c
			store put d/ ok
			theirs put d/a untold
			close 1
			kill done
			rename d/a a`},
		{"close that did not wait for its turn", modelKind{}, `
			mkdir e
			store put e/ ok
			open 1 e/b c
			open 2 e/b c
			close 1
			store put e/b lost
			rename e/b b
			close 2
			sleep 40s`},
		{"replaced, and renamed before that was done", modelKind{bus: true}, `
			open 1 b c
			open 2 a c
			mkdir e
			close 2
			rename b a
			rename a e/b`},
		{"renamed while it replaces", modelKind{writeBack: true, bus: true}, `
			open 1 b c
			close 1
			rename b a
			mkdir d
			rename a d/a
			open 2 b c
			rename b d/a
			close 2
			rename d/a b`},
		{"renamed in an upload, written, killed", modelKind{writeBack: true, bus: true, bare: true}, `
			open 1 b c
			open 2 b t
			close 1
			rename b a
			close 2
			kill done`},
		{"renamed, removed, killed in between", modelKind{forgetful: true, bare: true}, `
			mkdir d
			store put d/ ok
			open 1 b c
			close 1
			store put b ok
			rename b d/a
			unlink d/a
			store copy d/a ok
			store delete b ok
			kill undone`},
		{"directory removed and made again, killed", modelKind{bare: true}, `
			mkdir d
			rmdir d
			mkdir d
			kill done`},
		{"directory renamed and made again, killed", modelKind{bus: true}, `
			mkdir e
			rename e d
			mkdir e
			kill undone`},
		{"written by others behind a close that failed", modelKind{bare: true}, `
			open 1 b x
			sync 1
			store put b lost
			write 1 add
			close 1
			store put b ok
			store head b lost
			open 2 b c
			write 2 put`},
		{"directory renamed, killed in between", modelKind{writeBack: true, bus: true, bare: true}, `
			mkdir d
			open 1 d/a c
			sync 1
			store put d/ ok
			store put d/a ok
			rename d e
			store delete d/ ok
			kill done`},
		{"renamed and made again, left twice", modelKind{bus: true, forgetful: true, bare: true}, `
			open 1 b c
			open 2 b w
			sync 1
			store put b ok
			rename b a
			open 3 b x
			leave
			leave`},
		{"renamed over what is on its way, killed", modelKind{}, `
			mkdir e
			store put e/ ok
			open 1 b x
			write 1 mid
			close 1
			store put b lost
			kill undone
			open 2 e/b c
			close 2
			rename b e/b
			kill done`},
		{"renamed, removed, left in between", modelKind{writeBack: true, bus: true, forgetful: true, bare: true}, `
			open 1 b c
			mkdir d
			close 1
			store put d/ ok
			store put b ok
			rename b d/a
			store copy d/a ok
			unlink d/a
			leave`},
		{"mode changed in an upload whose answer is lost", modelKind{writeBack: true, bus: true}, `
			open 1 a c
			close 1
			chmod a 49
			store put a lost`},
		{"looked at before the upload of what replaces it", modelKind{writeBack: true, forgetful: true, bare: true}, `
			mkdir e
			open 1 a x
			close 1
			store put a ok
			open 2 b c
			rename b e/b
			open 3 a c
			rename e/b a`},
		{"answer lost, then found by a listing", modelKind{writeBack: true, bus: true, forgetful: true}, `
			open 1 a c
			close 1
			store put a lost
			store put a failed
			refresh`},
		{"written, renamed and removed after a start", modelKind{writeBack: true, bus: true, forgetful: true, bare: true}, `
			open 1 b c
			mkdir e
			mkdir d
			sync 1
			store put b ok
			rename b d/a
			rename d/a e/b
			open 2 e/b c
			write 2 mid
			close 2
			rename e/b d/a
			unlink d/a
			leave`},
		{"directory made and removed before a listing", modelKind{}, `
			mkdir e
			rmdir e
			refresh`},
		{"replaced in an upload, closed, killed", modelKind{writeBack: true, bus: true, forgetful: true}, `
			mkdir e
			store put e/ ok
			open 1 e/b x
			open 2 b x
			close 1
			rename b e/b
			close 2
			kill done`},
		{"renamed there and back, removed, killed in between", modelKind{forgetful: true}, `
			open 1 a c
			leave
			store put a ok
			rename a b
			rename b a
			unlink a
			kill done`},
		{"kept beside twice in a directory that is renamed", modelKind{bus: true}, `
			theirs put e/b untold
			mkdir e
			store put e/ ok
			open 1 e/b c
			close 1
			store put e/b ok
			store head e/b ok
			open 2 e/b c
			store head e/b ok
			store put e/b.skyagent-conflict-20000101T000000.900Z ok
			write 2 mid
			store head e/b ok
			store head e/b ok
			rename e d
			close 2`},
		{"mode changed while the last one is on its way", modelKind{bus: true}, `
			open 1 a c
			close 1
			store put a ok
			chmod a 55
			sleep 1500ms
			chmod a 61
			store copy a lost`},
		{"mode changed while a rename is on its way", modelKind{bus: true}, `
			open 1 a c
			close 1
			store put a ok
			rename a b
			chmod b 55
			sleep 1500ms`},
		{"written while a mode has no answer", modelKind{writeBack: true, bus: true, bare: true}, `
			mkdir e
			open 1 e/b c
			close 1
			store put e/ ok
			store put e/b ok
			chmod e/b 28
			flush
			open 2 e/b w
			store copy e/b lost
			write 2 add`},
		{"renamed back while an answer is lost", modelKind{bus: true, forgetful: true, bare: true}, `
			mkdir e
			store put e/ ok
			open 1 a x
			open 2 a t
			close 1
			store put a clashed
			rename a e/b
			store head a ok
			close 2
			store put e/b lost
			store put e/b ok
			rename e/b a
			store head e/b lost`},
		{"removed before its upload is tried again, killed", modelKind{bus: true, forgetful: true}, `
			mkdir e
			open 1 e/b c
			leave
			unlink e/b
			store put e/ ok
			store put e/b failed
			store head e/b ok
			kill done`},
		{"promised, written on and renamed, killed", modelKind{writeBack: true, bus: true, forgetful: true}, `
			open 1 b c
			mkdir e
			store put e/ ok
			sync 1
			write 1 mid
			rename b e/b
			store put b ok
			store copy e/b ok
			store delete b ok
			kill undone`},
		{"truncated after lost answers, renamed, killed before that is said", modelKind{writeBack: true, bus: true}, `
			mkdir d
			store put d/ ok
			open 12 d/a c
			write 12 add
			close 12
			store put d/a lost
			open 17 d/a t
			close 17
			store put d/a lost
			store head d/a ok
			rename d/a a
			store head d/a ok
			kill done early`},
		{"promised anew while it is uploaded, renamed, killed", modelKind{writeBack: true, bus: true}, `
			open 1 a x
			write 1 put
			sync 1
			write 1 put
			sync 1
			rename a b
			store put a ok
			store copy b ok
			store delete a ok
			kill undone`},
		{"promised, renamed and not there, killed", modelKind{writeBack: true, bus: true}, `
			open 1 a c
			close 1
			rename a b
			store put a failed
			store head a ok
			kill undone`},
		{"promised anew beside an upload that nobody knows of, renamed, killed", modelKind{writeBack: true, bus: true}, `
			open 1 a c
			close 1
			store put a lost
			open 2 a w
			write 2 put
			close 2
			store put a failed
			store put a failed
			store put a failed
			store put a failed
			rename a b
			kill undone`},
		{"a file where a directory was, killed", modelKind{writeBack: true, bus: true}, `
			mkdir e
			store put e/ ok
			rmdir e
			open 1 e c
			close 1
			kill undone`},
		{"two kept beside at the same time", modelKind{writeBack: true, bus: true, forgetful: true}, `
			theirs put e/b told
			mkdir d
			open 10 d/a x
			rename e/b a
			store put e/ ok
			store copy a lost
			close 10
			rename a b
			rename d/a e/b
			theirs put b untold
			rename e/b b
			sleep 10ms`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := runScript(t, tc.kind, slog.New(slog.NewTextHandler(t.Output(), nil)), lines(tc.script))
			for _, fault := range run.faults {
				t.Error(fault)
			}
		})
	}
}

func lines(script string) []string {
	var list []string
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
