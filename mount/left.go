package mount

import (
	"fmt"
	"strings"

	"github.com/skyagent/skyagent/manifest"
)

// A LeftError says that a mount ended before all that was changed was in the
// bucket. The journal has it, for the next start at the same directory, but for
// what is lost.
type LeftError struct {
	Err  error           // what Flush said
	Lost []manifest.Path // files of which only a part was here
}

func (e *LeftError) Error() string {
	if len(e.Lost) == 0 {
		return e.Err.Error()
	}
	names := make([]string, len(e.Lost))
	for i, p := range e.Lost {
		names[i] = string(p)
	}
	return fmt.Sprintf("%v; lost is what was written to %s", e.Err, strings.Join(names, ", "))
}

// Unwrap returns what Flush said.
func (e *LeftError) Unwrap() error { return e.Err }

// leftOver puts the contents that are not in the bucket into the journal, as a
// close with write-back does, when err is why they are not.
func (m *FS) leftOver(err error) error {
	if err == nil {
		return nil
	}
	left := &LeftError{Err: err}
	for _, f := range m.dirtyFiles() {
		if f.inJournal() {
			continue
		}
		if kept, err := m.keepStage(f); err != nil || !kept {
			m.tree.mu.RLock()
			left.Lost = append(left.Lost, f.n.path())
			m.tree.mu.RUnlock()
		}
	}
	return left
}

// dirtyFiles returns the files of the tree that the bucket does not have as they
// are here.
func (m *FS) dirtyFiles() []*file {
	m.tree.mu.RLock()
	defer m.tree.mu.RUnlock()
	var list []*file
	m.tree.root.below(func(n *node) {
		if n.file != nil && n.file.dirty.Load() {
			list = append(list, n.file)
		}
	})
	return list
}

// inJournal reports whether the journal has the content of f as it is.
func (f *file) inJournal() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.kept.Load() != 0 && f.gen == f.asked
}
