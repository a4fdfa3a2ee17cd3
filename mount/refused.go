package mount

import "sync"

// refusals remember which threads were told that a version is stale. The kernel
// looks the name up again for them, in the same open(2), and fails it when it is
// told so twice. The version that it found then is newer than the call: it is
// good, even when yet another one has come in between.
type refusals struct {
	mu   sync.Mutex // guards what follows
	last map[uint32]refusal
}

type refusal struct{ ino, id uint64 }

// maxRefusals bounds what is remembered; what is forgotten costs an ESTALE.
const maxRefusals = 1 << 12

// note remembers that pid was refused node n as stale.
func (r *refusals) note(pid uint32, n *node, id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) >= maxRefusals {
		r.last = map[uint32]refusal{}
	}
	r.last[pid] = refusal{n.ino, id}
}

// again reports whether pid opens n in place of a node that it was refused just
// before.
func (r *refusals) again(pid uint32, n *node, id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[pid]
	delete(r.last, pid)
	return ok && last.ino == n.ino && last.id != id
}
