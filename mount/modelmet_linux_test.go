package mount

import (
	"log/slog"
	"strings"
	"testing"
)

// TestModelMet runs what went wrong once, each as short as it could be made.
func TestModelMet(t *testing.T) {
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
		{"directory renamed, killed in between", modelKind{writeBack: true, bus: true, bare: true}, `
			mkdir d
			open 1 d/a c
			sync 1
			store put d/ ok
			store put d/a ok
			rename d e
			store delete d/ ok
			kill done`},
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
