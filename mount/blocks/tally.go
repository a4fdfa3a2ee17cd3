package blocks

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A tally tells the processes that share a directory how much the others have
// written, so that all of them together keep to the limit: each has a file that
// holds how many bytes it wrote in all.
type tally struct {
	dir  string
	file *os.File

	mu      sync.Mutex // guards what follows
	written int64      // bytes, by this process
	told    int64      // and as its file says
	base    map[string]int64
	delta   int64 // what the others wrote since base was taken, when last looked
}

// tellEvery is how many bytes a process writes before it tells and looks: the
// directory may be too large by as much for every process.
const tellEvery = 16 << 20

const talliesName = "writers" // directory below the cache's

func openTally(dir string) (*tally, error) {
	t := &tally{dir: filepath.Join(dir, talliesName)}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if t.file, err = os.CreateTemp(t.dir, ""); err != nil {
		return nil, err
	}
	t.base = t.read()
	return t, nil
}

func (t *tally) close() error {
	return errors.Join(t.file.Close(), remove(t.file.Name()))
}

// others notes that n bytes will be written and returns how many the others
// wrote since the last forget, about.
func (t *tally) others(n int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written += n; t.written-t.told < tellEvery {
		return t.delta
	}
	t.told = t.written
	// Where this cannot be written the contents cannot either, and that is said.
	_, _ = t.file.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(t.written)), 0)
	t.delta = 0
	for name, written := range t.read() {
		t.delta += max(0, written-t.base[name])
	}
	return t.delta
}

// forget begins anew: all that was written was counted on disk.
func (t *tally) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base, t.delta = t.read(), 0
}

// read returns what all processes but this one have written. It deletes files
// that were not written for long: who still lives writes his again, or writes
// nothing that counts.
func (t *tally) read() map[string]int64 {
	counts := map[string]int64{}
	entries, _ := os.ReadDir(t.dir)
	for _, e := range entries {
		path := filepath.Join(t.dir, e.Name())
		if info, err := e.Info(); err != nil || path == t.file.Name() {
			continue
		} else if time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(path)
			continue
		}
		if b, err := os.ReadFile(path); err == nil && len(b) == 8 {
			counts[e.Name()] = int64(binary.LittleEndian.Uint64(b))
		}
	}
	return counts
}
