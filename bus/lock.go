package bus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockPoll is how often a waiting process looks whether a lock is free: a
// waiting flock could not be given up when the context ends.
const lockPoll = 100 * time.Millisecond

// A lockFile is a held lock. The file itself is never removed: a lock on a
// file that has lost its name protects nothing.
type lockFile struct{ f *os.File }

// tryLockFile returns the lock on name, or nil when another process has it.
func tryLockFile(name string) (*lockFile, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	ok, err := tryLock(f)
	if err == nil && ok {
		return &lockFile{f}, nil
	}
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return nil, nil
}

// waitLockFile waits for the lock on name until ctx ends.
func waitLockFile(ctx context.Context, name string) (*lockFile, error) {
	for {
		l, err := tryLockFile(name)
		if l != nil || err != nil {
			return l, err
		}
		if err := sleep(ctx, lockPoll); err != nil {
			return nil, err
		}
	}
}

func (l *lockFile) release() { l.f.Close() }
