package mount

import (
	"sync"
	"sync/atomic"

	"github.com/skyagent/skyagent/manifest"
)

// A replay makes what others changed visible to inotify, which knows only what
// was done on this machine: one thread does it once more on the mount, and what
// it asks of us is answered without work. The tree has the change by then.
type replay struct {
	on   bool          // never changes
	wake chan struct{} // holds a token while anything waits
	tid  atomic.Uint32 // of the thread; 0 while there is none
	now  atomic.Pointer[echo]

	mu    sync.Mutex // guards what follows; comes last
	live  bool       // the tree was read: what comes now is news
	order []manifest.Path
	kinds map[manifest.Path]echoKind
}

// An echo is one change that is done once more.
type echo struct {
	dir  *node
	name string
	kind echoKind
	n    *node // what the kernel is told of; a removed one is made up
}

type echoKind uint8

const (
	echoMade echoKind = iota + 1
	echoWritten
	echoRemoved
	echoDirMade
	echoDirRemoved
)

// maxEchoes bounds what waits; more is not seen by watchers.
const maxEchoes = 1 << 16

func (r *replay) init(on bool) {
	r.on, r.wake, r.kinds = on, make(chan struct{}, 1), map[manifest.Path]echoKind{}
}

// begin has changes count from now on.
func (r *replay) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = true
}

// add has a change replayed. What is new is new, however often it was written
// before its turn came; what came and went is nothing.
func (r *replay) add(p manifest.Path, kind echoKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on || !r.live {
		return
	}
	before := r.kinds[p]
	switch {
	case before == 0 && len(r.kinds) >= maxEchoes:
		return
	case before == 0:
		r.order = append(r.order, p)
	case before == echoMade && kind == echoWritten:
		kind = echoMade
	}
	r.kinds[p] = kind
	wake(r.wake)
}

// take returns what comes next.
func (r *replay) take() (p manifest.Path, kind echoKind, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == 0 {
		return "", 0, false
	}
	p, r.order = r.order[0], r.order[1:]
	kind = r.kinds[p]
	delete(r.kinds, p)
	return p, kind, true
}

// by reports whether thread tid is the one that replays.
func (r *replay) by(tid uint32) bool { return tid != 0 && tid == r.tid.Load() }

// at returns what is replayed at name in dir, or nil.
func (r *replay) at(dir *node, name string) *echo {
	if e := r.now.Load(); e != nil && e.dir == dir && e.name == name {
		return e
	}
	return nil
}
