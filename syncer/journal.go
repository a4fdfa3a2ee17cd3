package syncer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/skyagent/skyagent/manifest"
)

// A journal names what a replica is about to put in place, before it does and
// until the index knows. A replica that is killed in between finds its own
// files by it, which would otherwise look like a stranger's: the source may
// have gone on meanwhile, so that the log says other bytes of them.
type journal struct {
	mu   sync.Mutex // one line at a time
	file *os.File
}

// openJournal opens the journal at path and returns what an earlier run left.
func openJournal(path string) (*journal, []manifest.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	var left []manifest.File
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f manifest.File
		if json.Unmarshal(lines.Bytes(), &f) == nil { // the last line may be half of one
			left = append(left, f)
		}
	}
	return &journal{file: file}, left, nil
}

// add notes that files are about to appear. It is for crashes of the process: one of
// the machine loses the index's last words too. Its error is no reason to stop:
// only a crash would make the file look like a stranger's.
func (j *journal) add(files ...manifest.File) error {
	var lines bytes.Buffer
	for _, f := range files {
		f.Parts, f.PartSize = nil, 0
		if err := json.NewEncoder(&lines).Encode(f); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(lines.Bytes()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// clear forgets what the index knows by now.
func (j *journal) clear() error { return j.file.Truncate(0) }

func (j *journal) close() error { return j.file.Close() }

// recover takes into the index what an earlier run placed and did not note.
func (r *Replica) recover(left []manifest.File) error {
	var found []manifest.Entry
	for _, f := range left {
		fi, err := r.root.Lstat(disk(f.Path))
		switch {
		case err != nil || fi.IsDir() != f.IsDir():
		case f.IsDir():
			found = append(found, manifest.Entry{File: f})
		case fi.Mode().IsRegular() && fi.Size() == f.Size:
			if hash, err := r.hashOf(f.Path); err == nil && hash == f.Hash {
				found = append(found, manifest.Entry{File: f, Stat: manifest.StatOf(fi)})
			}
		}
	}
	if len(found) > 0 {
		if err := r.index.Update(r.index.Position(), found, nil); err != nil {
			return err
		}
	}
	return r.journal.clear()
}
