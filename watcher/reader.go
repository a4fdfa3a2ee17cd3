package watcher

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/manifest"
)

// A reader takes the events of a backend as fast as they come and only notes
// them: the kernel's queue overflows when its reader does anything slow.
type reader struct {
	root  string // as in the backend's paths
	only  string // the one name in the root that counts; "" when all do
	queue *queue
	hints *hints
	obs   Observer
	w     *Watcher
}

// bound are the operations after which a name may be another file or directory.
const bound = fsnotify.Create | fsnotify.Remove | fsnotify.Rename

// run reads until the backend's channels are closed.
func (r *reader) run(b Backend) {
	events, errs := b.Events(), b.Errors()
	for events != nil {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			r.event(ev)
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			r.failed(err)
		}
	}
}

// event notes one event.
func (r *reader) event(ev fsnotify.Event) {
	r.obs.Event(opName(ev.Op))
	if ev.Name == r.root {
		if ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
			r.hints.root()
		}
		return
	}
	p, err := r.path(ev.Name)
	if err != nil {
		// No Path stands for it, but whoever looks at the tree must count it.
		if ev.Op&bound != 0 {
			r.hints.ask(reasonName)
		}
		return
	}
	if p == "" {
		return
	}
	r.queue.touch(p)
	if ev.Op&bound != 0 || r.w.denied.Load() {
		r.hints.name(p, ev.Op)
	}
}

// path returns the path of a name that the backend reports: "" for what is none
// of ours, an error for what cannot be in a manifest.
func (r *reader) path(name string) (manifest.Path, error) {
	rest, ok := strings.CutPrefix(name, r.root)
	rest = strings.TrimPrefix(filepath.ToSlash(rest), "/")
	top := manifest.Path(rest).Top()
	if !ok || top == manifest.Reserved || r.only != "" && top != r.only {
		return "", nil
	}
	return manifest.ParsePath(rest)
}

// failed notes an error of the backend.
func (r *reader) failed(err error) {
	if err == syscall.EINVAL {
		return // fsnotify: it wanted to remove the watch of a directory that was moved and is gone by now
	}
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		r.obs.Overflow()
		r.w.log.Warn("events were lost, the tree will be looked at", "err", err)
		r.hints.ask(reasonOverflow)
		return
	}
	r.w.log.Warn("events may have been lost, the tree will be looked at", "err", err)
	r.hints.ask(reasonError)
}

// opName returns the first operation of op as a label.
func opName(op fsnotify.Op) string {
	switch {
	case op.Has(fsnotify.Create):
		return "create"
	case op.Has(fsnotify.Write):
		return "write"
	case op.Has(fsnotify.Remove):
		return "remove"
	case op.Has(fsnotify.Rename):
		return "rename"
	}
	return "chmod"
}
