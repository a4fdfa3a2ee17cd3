package program

import (
	"fmt"
	"testing"
)

// A recorder takes the errors that a check would give a test.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestCheckSecrets(t *testing.T) {
	environ := []string{"AWS_SECRET_ACCESS_KEY=hunter2hunter2", "HOME=/home/ada", "EMPTY_SECRET="}
	for said, want := range map[string]int{"all is well in /home/ada": 0, "signed with hunter2hunter2.": 1} {
		r := &recorder{TB: t}
		checkSecrets(r, environ, said)
		if len(r.errors) != want {
			t.Errorf("%q: %q", said, r.errors)
		}
	}
}
