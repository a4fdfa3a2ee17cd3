package syncer

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/skyagent/skyagent/manifest"
)

// ErrInUse says that another process of this machine works on the same
// directory with the same state.
var ErrInUse = errors.New("another skyagent is at work on it")

// lockIndex keeps other processes away from the index at path. The kernel
// drops the lock when the process ends, however it ends.
func lockIndex(path string) (*flock.Flock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(path + ".lock")
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	if !ok {
		return nil, ErrInUse
	}
	return lock, nil
}

// openIndex opens the index at path. A damaged one is put aside:
// it is only a cache.
func openIndex(path string, log *slog.Logger) (*manifest.Index, error) {
	index, err := manifest.OpenIndex(path)
	if !errors.Is(err, manifest.ErrCorrupt) {
		return index, err
	}
	aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	log.Warn("index is damaged, building it anew from the log and the files", "err", err, "kept_as", aside)
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("put damaged index aside: %w", err)
	}
	return manifest.OpenIndex(path)
}
