package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A record is the file that says what one host was sent: a line for each
// path, ended by a zero byte, the last one of a path holding. It is appended to
// after every transfer and written anew after a pass over everything. A line cut
// off by a crash is ignored.
type record struct{ file string }

// The first letter of a line. A stamp and a space follow, and the path.
const (
	lineFile = 'f'
	lineDir  = 'd'
	lineGone = '-'
)

// A sent is what a host has of a path.
type sent struct {
	dir   bool
	stamp uint64
}

func (r record) load() (map[string]sent, error) {
	b, err := os.ReadFile(r.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read record of what was sent: %w", err)
	}
	have := make(map[string]sent)
	lines := bytes.Split(b, []byte{0})
	for _, line := range lines[:len(lines)-1] {
		head, name, ok := strings.Cut(string(line), " ")
		if !ok || head == "" {
			continue
		}
		stamp, err := strconv.ParseUint(head[1:], 16, 64)
		switch {
		case head[0] == lineGone:
			delete(have, name)
		case err == nil:
			have[name] = sent{dir: head[0] == lineDir, stamp: stamp}
		}
	}
	return have, nil
}

// write replaces the record by what t has and kept, which is no longer there but
// was not deleted.
func (r record) write(all []stamped) error {
	if err := os.MkdirAll(filepath.Dir(r.file), 0o700); err != nil {
		return err
	}
	temp := r.file + ".tmp"
	if err := writeLines(temp, os.O_TRUNC, all, nil); err != nil {
		return err
	}
	return os.Rename(temp, r.file)
}

// add notes one transfer.
func (r record) add(put []stamped, gone []path) error {
	return writeLines(r.file, os.O_APPEND, put, gone)
}

// A stamped is a path and what is known of it.
type stamped struct {
	name string
	sent
}

func writeLines(file string, how int, put []stamped, gone []path) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|how, 0o600)
	if err != nil {
		return fmt.Errorf("write record of what was sent: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for _, s := range put {
		letter := lineFile
		if s.dir {
			letter = lineDir
		}
		fmt.Fprintf(w, "%c%x %s\x00", letter, s.stamp, s.name)
	}
	for _, p := range gone {
		fmt.Fprintf(w, "%c %s\x00", lineGone, p.name)
	}
	return w.Flush()
}
