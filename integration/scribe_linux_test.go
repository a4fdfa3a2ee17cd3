package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// scribeFiles is how many files a scribe writes in turn.
const scribeFiles = 6

// A scribe writes a few files of its own in a mount again and again, and knows
// for which versions a close has returned.
type scribe struct {
	dir, name string
	failures  []error // that may come; another one is the test's failure

	mu    sync.Mutex // guards what follows
	acked [scribeFiles]int
	tried [scribeFiles]int
	acks  int
	errs  int
	wrong error
}

// A desk is a number of scribes at work in a storage, each of which reads what
// the others write, too.
type desk struct {
	scribes []*scribe
	lax     atomic.Bool // reads may miss what was written lately
	quit    chan struct{}
	ended   sync.WaitGroup
}

// newDesk starts a scribe in each of dirs, once all have made their files.
func newDesk(t *testing.T, dirs []string, failures ...error) *desk {
	t.Helper()
	d := &desk{quit: make(chan struct{})}
	for i, dir := range dirs {
		s := &scribe{dir: dir, name: fmt.Sprintf("scribe%d", i), failures: failures}
		for k := range scribeFiles {
			s.write(k, 1)
		}
		must(t, s.wrong)
		d.scribes = append(d.scribes, s)
	}
	for _, dir := range dirs {
		for _, s := range d.scribes {
			waitFor(t, "the files of "+s.name, func() bool { return s.shown(dir) })
		}
	}
	for i, s := range d.scribes {
		next := d.scribes[(i+1)%len(dirs)]
		d.ended.Go(func() {
			for n := 2; s.goesOn(d.quit); n++ {
				s.write(n%scribeFiles, n)
				if next.dir != s.dir { // on one mount a file is seen while it is written
					s.check(next, n%scribeFiles, d.lax.Load())
				}
			}
		})
	}
	t.Cleanup(d.stop)
	return d
}

// stop lets the scribes finish what they are writing.
func (d *desk) stop() {
	select {
	case <-d.quit:
	default:
		close(d.quit)
	}
	d.ended.Wait()
}

func (s *scribe) goesOn(quit <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-quit:
		return false
	default:
		return s.wrong == nil
	}
}

func (s *scribe) file(k int) string { return fmt.Sprintf("%s-%d", s.name, k) }

// content is version n of file k: of another length than most others, and so
// that a mixture of two is none.
func (s *scribe) content(k, n int) []byte {
	line := fmt.Appendf(nil, "%s version %d\n", s.file(k), n)
	return bytes.Repeat(line, 1+n*37%400)
}

// version returns which version of file k the bytes are.
func (s *scribe) version(k int, b []byte) (n int, err error) {
	if _, err := fmt.Sscanf(string(b[:min(len(b), 80)]), s.file(k)+" version %d", &n); err != nil || !bytes.Equal(b, s.content(k, n)) {
		return 0, fmt.Errorf("%s has %d bytes %.60q, which nobody wrote", s.file(k), len(b), b)
	}
	return n, nil
}

func (s *scribe) write(k, n int) {
	s.mu.Lock()
	s.tried[k] = n
	s.mu.Unlock()
	err := os.WriteFile(filepath.Join(s.dir, s.file(k)), s.content(k, n), 0o644)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.acked[k] = n
		s.acks++
		return
	}
	s.failed(err)
}

func (s *scribe) failed(err error) {
	s.errs++
	for _, may := range s.failures {
		if errors.Is(err, may) {
			return
		}
	}
	s.wrong = errors.Join(s.wrong, err)
}

// check reads what other writes: no version older than one whose close had
// returned before. A version that was replaced while it was read has an end.
func (s *scribe) check(other *scribe, k int, lax bool) {
	least := other.least(k)
	if lax {
		least = 1
	}
	err := other.readFrom(s.dir, k, least)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := (*os.PathError)(nil); err != nil && !(errors.As(err, &at) && at.Op == "read" && at.Err == syscall.ESTALE) {
		s.failed(err)
	}
}

// least is the version of file k that must be seen from now on.
func (s *scribe) least(k int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked[k]
}

func (s *scribe) readIn(dir string, k int) error { return s.readFrom(dir, k, s.least(k)) }

func (s *scribe) readFrom(dir string, k, least int) error {
	b, err := os.ReadFile(filepath.Join(dir, s.file(k)))
	if err != nil {
		return err
	}
	return s.recent(k, b, least)
}

func (s *scribe) recent(k int, b []byte, least int) error {
	n, err := s.version(k, b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < least || n > s.tried[k] {
		return fmt.Errorf("%s is at version %d; %d was acknowledged before, %d is the last", s.file(k), n, least, s.tried[k])
	}
	return nil
}

func (s *scribe) shown(dir string) bool {
	for k := range scribeFiles {
		if s.readIn(dir, k) != nil {
			return false
		}
	}
	return true
}

func (s *scribe) counts() (acks, errs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks, s.errs
}

// waitAcks waits until every scribe has written n more files; those that fail
// end the test.
func (d *desk) waitAcks(t *testing.T, n int) {
	t.Helper()
	d.wait(t, "writes", func(s *scribe) int { acks, _ := s.counts(); return acks }, n)
}

// waitErrs waits until every scribe was told n more errors.
func (d *desk) waitErrs(t *testing.T, n int) {
	t.Helper()
	d.wait(t, "errors", func(s *scribe) int { _, errs := s.counts(); return errs }, n)
}

func (d *desk) wait(t *testing.T, what string, count func(*scribe) int, more int) {
	t.Helper()
	for _, s := range d.scribes {
		from := count(s)
		waitFor(t, what+" of "+s.name, func() bool { return count(s) >= from+more || !s.goesOn(d.quit) })
	}
	d.wantRight(t)
}

func (d *desk) wantRight(t *testing.T) {
	t.Helper()
	for _, s := range d.scribes {
		s.mu.Lock()
		if s.wrong != nil {
			t.Errorf("%s in %s: %v", s.name, s.dir, s.wrong)
		}
		s.mu.Unlock()
	}
	if t.Failed() {
		t.FailNow()
	}
}

// finish stops the scribes and wants each acknowledged version, or a later one,
// in the bucket, and the same in all of dirs.
func (d *desk) finish(t *testing.T, r *rig, dirs ...string) {
	t.Helper()
	d.stop()
	d.wantRight(t)
	for _, dir := range dirs {
		r.home.MustRun(t, "mount", "flush", dir, "--timeout", "1m")
	}
	acks, errs := 0, 0
	for _, s := range d.scribes {
		for k := range scribeFiles {
			b, err := os.ReadFile(r.object(s.file(k)))
			must(t, err)
			if err := s.recent(k, b, s.acked[k]); err != nil {
				t.Errorf("in the bucket: %v", err)
			}
			for _, dir := range dirs {
				if got, err := os.ReadFile(filepath.Join(dir, s.file(k))); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s in %s: %d bytes %.40q, %v; the bucket has %d bytes %.40q", s.file(k), dir, len(got), got, err, len(b), b)
				}
			}
		}
		acks, errs = acks+s.acks, errs+s.errs
	}
	t.Logf("%d writes were acknowledged, %d operations failed", acks, errs)
}

// storeAway is what the operations of a mount whose store is gone may answer.
var storeAway = []error{syscall.EIO}
