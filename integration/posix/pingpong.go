//go:build linux

package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long one side waits for the other.
const patience = 60 * time.Second

// PingPong lets two workers, a process on each directory, pass a counter: one
// writes it to the file ping, the other waits until it reads it there and writes
// it to the file pong. It returns how long each of the rounds took. Both look by
// opening and reading, as fast as a shell loop would and no faster.
func PingPong(t testing.TB, dirA, dirB string, rounds int) []time.Duration {
	t.Helper()
	other := start(t, "pong", dirB, strconv.Itoa(rounds))
	var took []time.Duration
	for n := 1; n <= rounds; n++ {
		began := time.Now()
		if err := pass(dirA, "ping", "pong", n); err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		took = append(took, time.Since(began))
	}
	if err := other.wait(); err != nil {
		t.Fatalf("wait for the other side: %v", err)
	}
	for _, name := range []string{"ping", "pong"} {
		if err := os.Remove(filepath.Join(dirA, name)); err != nil {
			t.Error(err)
		}
	}
	return took
}

// pass writes the counter to one file and waits for it in the other.
func pass(dir, to, from string, n int) error {
	if err := os.WriteFile(filepath.Join(dir, to), []byte(strconv.Itoa(n)), 0o644); err != nil {
		return err
	}
	return await(filepath.Join(dir, from), n)
}

// await reads the file until it holds n. A file system that is slow may show
// the number before, nothing or no file, and never another number.
func await(path string, n int) error {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		b, err := os.ReadFile(path)
		got := strings.TrimSpace(string(b))
		switch {
		case got == strconv.Itoa(n):
			return nil
		case got != "" && got != strconv.Itoa(n-1):
			return fmt.Errorf("%s holds %q, want %d or the one before", filepath.Base(path), got, n)
		case time.Now().After(deadline):
			return fmt.Errorf("%s still holds %q after %v, want %d (%v)", filepath.Base(path), got, patience, n, err)
		}
	}
}

// pongMain is the other side.
func pongMain() error {
	dir := os.Args[1]
	rounds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	for n := 1; n <= rounds; n++ {
		if err := await(filepath.Join(dir, "ping"), n); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "pong"), []byte(strconv.Itoa(n)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
