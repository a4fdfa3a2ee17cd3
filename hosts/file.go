package hosts

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
)

const (
	fileQuiet = 50 * time.Millisecond // without an event before a file may have settled
	filePoll  = 10 * time.Second      // between looks that no event asked for
)

// A File says when one file may have changed: the Changes of a source that is a
// file. It watches the directory that holds it, and nothing below.
type File struct {
	name    string
	batches chan manifest.Batch
}

// NewFile returns a File that watches nothing yet.
func NewFile(name string) *File {
	return &File{name: name, batches: make(chan manifest.Batch, 1)}
}

// Next implements Changes.
func (f *File) Next(ctx context.Context) (manifest.Batch, error) {
	select {
	case b := <-f.batches:
		return b, nil
	case <-ctx.Done():
		return manifest.Batch{}, ctx.Err()
	}
}

// Run watches until ctx ends, and returns nil then.
func (f *File) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.name, err)
	}
	defer w.Close()
	dir := filepath.Dir(f.name)
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	f.tell("start")
	quiet := time.NewTimer(filePoll)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if filepath.Base(e.Name) == filepath.Base(f.name) {
				quiet.Reset(fileQuiet)
			}
		case <-w.Errors:
			quiet.Reset(fileQuiet)
		case <-quiet.C:
			w.Add(dir) // it may be another directory by now
			f.tell("interval")
			quiet.Reset(filePoll)
		}
	}
}

// tell asks for a look; one that waits is enough.
func (f *File) tell(why string) {
	select {
	case f.batches <- manifest.Batch{Rescan: why}:
	default:
	}
}
