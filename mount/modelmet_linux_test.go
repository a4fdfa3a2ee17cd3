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
		{"others in the way of a rename", modelKind{forgetful: true}, `
			open 1 a c
			close 1
			store put a ok
			mkdir d
			rename a d/a
			theirs put d/a untold
			sleep 40s`},
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
