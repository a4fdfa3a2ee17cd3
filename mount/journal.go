package mount

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// The changes that a journal knows.
const (
	opPut    = "put"    // Stage holds what Key is to have, over Rev
	opDelete = "delete" // Key goes
	opMove   = "move"   // Key goes to To
	opMkdir  = "mkdir"  // Key is a directory's marker
)

// An entry is a change that has not reached the bucket, on a line of JSON.
type entry struct {
	ID    uint64         `json:"id"`
	Op    string         `json:"op,omitempty"`
	Key   string         `json:"key,omitempty"`
	To    string         `json:"to,omitempty"`
	Rev   string         `json:"rev,omitempty"`
	Over  string         `json:"over,omitempty"`  // the revision that a move replaces
	Stage string         `json:"stage,omitempty"` // a file's name
	Line  string         `json:"line,omitempty"`  // of the file
	Write string         `json:"write,omitempty"` // of copies of the file that are under way
	File  *manifest.File `json:"file,omitempty"`

	OverLine  string `json:"over_line,omitempty"` // as Line and Write, of what is replaced
	OverWrite string `json:"over_write,omitempty"`

	Done bool `json:"done,omitempty"`
}

// A journal remembers the changes that have not reached the bucket, for the
// next life of the mount. It holds over the end of the process, not over that
// of the machine: lines are not synced one by one.
type journal struct {
	mu   sync.Mutex // guards what follows
	file *os.File
	next uint64
	open map[uint64]entry
	err  error // of the last write
	log  *slog.Logger
}

// openJournal reads what a former life left.
func openJournal(path string, log *slog.Logger) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &journal{file: file, log: log, open: map[uint64]entry{}}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the process ended in the middle of the line
		}
		j.next = max(j.next, e.ID)
		if e.Done {
			delete(j.open, e.ID)
		} else {
			j.open[e.ID] = e
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	_, err = file.WriteString("\n") // ends a line that the end of the process cut
	return j, err
}

// left returns what is open, in order.
func (j *journal) left() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []entry
	for _, e := range j.open {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b entry) int { return int(a.ID) - int(b.ID) })
	return list
}

// begin notes e, which is to come, and returns its number. After an error it is
// not noted: a crash loses it.
func (j *journal) begin(e entry) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	e.ID = j.next
	if err := j.append(e); err != nil {
		return 0, err
	}
	j.open[e.ID] = e
	return e.ID, nil
}

// again notes e, which a former life began, behind what has been noted since, and
// returns its number.
func (j *journal) again(e entry) uint64 {
	id, err := j.begin(e)
	if err != nil {
		return e.ID
	}
	j.end(e.ID)
	return id
}

// replace has a put replace what h is. The tree's mutex is held.
func (e *entry) replace(h *heir) {
	e.Rev, e.OverLine, e.OverWrite = string(h.rev()), h.lineage(), h.copying()
}

// rekey gives what entry id puts another name, over what h is. The tree's mutex is
// held.
func (j *journal) rekey(id uint64, p manifest.Path, h *heir) {
	j.rename(id, p, func(e *entry) bool {
		e.replace(h)
		return true
	})
}

// carried gives what entry id puts the name p, should it still have from: the
// object was brought there and has revision rev, or it is to replace what h is
// where that is "". The tree's mutex is held.
func (j *journal) carried(id uint64, from string, p manifest.Path, rev objstore.Rev, h *heir) {
	j.rename(id, p, func(e *entry) bool {
		if rev != "" {
			e.Rev, e.OverLine, e.OverWrite = string(rev), "", ""
		} else {
			e.replace(h)
		}
		return e.Key == from
	})
}

// rename gives what entry id puts the name p, and has change do the rest, unless
// that says no.
func (j *journal) rename(id uint64, p manifest.Path, change func(*entry) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.open[id]
	if !ok || !change(&e) {
		return
	}
	f := *e.File
	f.Path = p
	e.Key, e.File = string(p), &f
	j.open[id] = e
	_ = j.append(e) // has been said
}

// end notes that an entry is done.
func (j *journal) end(id uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.open[id]; !ok {
		return
	}
	delete(j.open, id)
	if len(j.open) > 0 {
		_ = j.append(entry{ID: id, Done: true}) // has been said
		return
	}
	if err := j.file.Truncate(0); err != nil {
		j.fail(err)
	}
}

func (j *journal) append(e entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if j.err != nil {
		b = append([]byte{'\n'}, b...) // ends a line that a full disk cut
	}
	if _, err := j.file.Write(b); err != nil {
		j.fail(err)
		return err
	}
	j.err = nil
	return nil
}

func (j *journal) fail(err error) {
	if j.err == nil {
		j.log.Warn("journal not written: a crash loses changes that are under way", "err", err)
	}
	j.err = err
}

func (j *journal) close() error {
	if err := j.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
