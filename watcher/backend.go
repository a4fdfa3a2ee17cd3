package watcher

import (
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// A Backend reports events in directories, one directory each: what is below
// them is the watcher's business. Paths are given and reported in the form
// Root/Path. Closing it closes both channels.
type Backend interface {
	Add(dir string) error    // an error that is syscall.ENOSPC means that watches are exhausted
	Remove(dir string) error // also for a directory that is gone
	Events() <-chan fsnotify.Event
	Errors() <-chan error // fsnotify.ErrEventOverflow means that events were lost
	Close() error
}

// queued is the number of events that wait in user space when the kernel
// reports them faster than we coalesce them: the kernel's own queue holds 16 Ki
// by default and loses what comes beyond.
const queued = 64 << 10

// NewBackend returns a Backend on fsnotify.
func NewBackend() (Backend, error) {
	w, err := fsnotify.NewBufferedWatcher(queued)
	if err != nil {
		return nil, fmt.Errorf("start fsnotify: %w", err)
	}
	return notifier{w}, nil
}

// A notifier is fsnotify as a Backend.
type notifier struct{ *fsnotify.Watcher }

func (n notifier) Events() <-chan fsnotify.Event { return n.Watcher.Events }
func (n notifier) Errors() <-chan error          { return n.Watcher.Errors }
