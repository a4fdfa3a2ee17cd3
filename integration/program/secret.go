package program

import (
	"strings"
	"testing"
)

// checkSecrets fails the test when a line or more of what the program said
// holds the value of one of its environment's variables for secrets: so the
// output of every run of the whole suite is searched.
func checkSecrets(t testing.TB, environ []string, said string) {
	t.Helper()
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.Contains(name, "SECRET") && len(value) >= 8 && strings.Contains(said, value) {
			t.Errorf("the program says what %s is", name)
		}
	}
}
