//go:build linux

package posix

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The ways in which a worker of Counter locks.
const (
	CountFlock  = "flock"  // the counter, before it is read through the same descriptor
	CountFcntl  = "fcntl"  // the same by POSIX locks
	CountAppend = "append" // the same, and the count is how long the file is
	CountReopen = "reopen" // a file of its own; the counter is opened under the lock
)

// Counter has workers, each a process on one of the directories in turn, count in
// one file under a lock, and wants their sum.
func Counter(t testing.TB, dirs []string, workers, rounds int, way string) {
	t.Helper()
	name := "count-" + way
	content := "0"
	if way == CountAppend {
		content = ""
	}
	for _, file := range []string{name, name + ".lock"} {
		if err := os.WriteFile(filepath.Join(dirs[0], file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var all []*child
	for i := range workers {
		all = append(all, start(t, "counter", filepath.Join(dirs[i%len(dirs)], name), strconv.Itoa(rounds), way))
	}
	for i, c := range all {
		if err := c.wait(); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(string(b))
		if way == CountAppend {
			got = strconv.Itoa(strings.Count(string(b), "x\n"))
			if len(b) != 2*strings.Count(string(b), "x\n") {
				t.Errorf("%s has %d bytes of %q...", dir, len(b), short(string(b)))
			}
		}
		if got != strconv.Itoa(workers*rounds) {
			t.Errorf("%s counts %q, want %d", dir, got, workers*rounds)
		}
	}
}

// counterMain is one worker.
func counterMain() error {
	path, way := os.Args[1], os.Args[3]
	rounds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	for i := range rounds {
		if err := countOnce(path, way); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return nil
}

func countOnce(path, way string) error {
	locked, flags := path, os.O_RDWR
	if way == CountAppend {
		flags |= os.O_APPEND
	}
	if way == CountReopen {
		locked += ".lock"
	}
	f, err := os.OpenFile(locked, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if way == CountFcntl {
		err = lock(f, unix.F_SETLKW, unix.F_WRLCK, 0, 0)
	} else {
		err = flock(f, unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	switch way {
	case CountReopen:
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, next(b), 0o644)
	case CountAppend:
		if _, err := f.WriteString("x\n"); err != nil {
			return err
		}
	default:
		b, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(next(b), 0); err != nil {
			return err
		}
	}
	if way == CountFlock {
		return flock(f, unix.LOCK_UN)
	}
	return f.Close()
}

func next(b []byte) []byte {
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return fmt.Appendf(nil, "%d", n+1)
}
