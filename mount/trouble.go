package mount

import (
	"errors"
	"fmt"

	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// refused reports whether err is the store's answer to this very change, which
// time alone will hardly turn. The change is made again all the same: it was
// promised, and somebody may give back the rights, or the bucket.
func refused(err error) bool {
	return objstore.Lasting(err) || errors.Is(err, objstore.ErrConflict) || errors.Is(err, blocks.ErrGone)
}

// hopeless reports whether a change of names that failed with err means nothing
// any more, whatever people do: what it was to change is not there, or another
// one, or the store knows no such thing.
func hopeless(err error) bool { return objstore.Lasting(err) && !objstore.Heals(err) }

// hindered notes that an attempt of j, which began in round, failed with err.
func (m *FS) hindered(j *job, err error, round int) {
	if j.hindered(err, round, refused(err)) {
		m.count.failed.Add(1)
		m.log.Error("change refused by the store, trying again", "err", err)
		return
	}
	m.log.Warn("change waits for the store", "err", err)
}

// maxGivenUp bounds how many refusals are remembered.
const maxGivenUp = 20

// giveUp notes that the store has refused e for good.
func (m *FS) giveUp(e entry, err error) {
	m.count.failed.Add(1)
	m.log.Error("change refused by the store", "op", e.Op, "key", e.Key, "err", err)
	if second(err) {
		return // somebody else was faster
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.givenUp) == maxGivenUp {
		m.givenUp = m.givenUp[1:]
	}
	m.givenUp = append(m.givenUp, fmt.Sprintf("%s of %s refused: %v", e.Op, e.Key, err))
	if m.unsaid == nil {
		m.unsaid = fmt.Errorf("%s %s: %w", e.Op, e.Key, err)
	}
}

// notGivenUp returns the first change that was given up since the last call.
func (m *FS) notGivenUp() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.unsaid
	m.unsaid = nil
	return err
}

// waitsFor says that n changes are tried again, and why the first is.
func waitsFor(n int, why error) string {
	if n == 1 {
		return fmt.Sprintf("a change is not in the bucket yet: %v", why)
	}
	return fmt.Sprintf("%d changes are not in the bucket yet; the first: %v", n, why)
}
