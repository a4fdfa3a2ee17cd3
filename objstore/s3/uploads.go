package s3

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// uploads remembers multipart uploads in a directory, a file each, so that a
// later attempt, or a later process, goes on with what a server has already.
// Lost, it costs bytes and leaves uploads behind, no more.
type uploads struct {
	dir string // "" remembers nothing

	mu     sync.Mutex      // guards active
	active map[string]bool // files of the uploads that run
}

// A memo is what is remembered of one upload. One without a path forgets.
type memo struct {
	uploads *uploads
	path    string
	file    *os.File // open while the upload runs
	begun   begun

	mu   sync.Mutex // guards what follows
	done map[int32]string
}

// begun is the first line of a memo's file.
type begun struct {
	Bucket string `json:"bucket"` // URL
	Key    string `json:"key"`    // in the bucket
	ID     string `json:"id"`
	Plan   string `json:"plan"` // of all that the parts are made of
}

// sent is one of its other lines.
type sent struct {
	Part int32  `json:"part"`
	ETag string `json:"etag"`
}

// plan names what u makes of parts: two uploads of one plan have the same bytes
// in each part. It is "" where nothing says which bytes are new.
func (u upload) plan(parts []objstore.Part, meta map[string]string) string {
	if meta["blake3"] == "" {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", u.from, u.base)
	for _, p := range parts {
		fmt.Fprintf(h, "%d %d %t\n", p.Size, p.Base, p.Body == nil)
	}
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		fmt.Fprintf(h, "%q %q\n", k, meta[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// recall returns what is remembered of the upload to a key, of whatever plan.
// The caller closes the memo.
func (us *uploads) recall(b begun) *memo {
	if us.dir == "" || b.Plan == "" {
		return &memo{uploads: us}
	}
	sum := sha256.Sum256([]byte(b.Bucket + "/" + b.Key))
	path := filepath.Join(us.dir, hex.EncodeToString(sum[:16]))
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.active[path] {
		return &memo{uploads: us} // two writers of one key: the other's
	}
	us.active[path] = true
	m := &memo{uploads: us, path: path, done: make(map[int32]string)}
	if old, done, err := readMemo(path); err == nil {
		m.begun, m.done = old, done
	}
	return m
}

func readMemo(path string) (begun, map[int32]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return begun{}, nil, err
	}
	defer file.Close()
	var b begun
	done := make(map[int32]string)
	lines := bufio.NewScanner(file)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &b) != nil || b.ID == "" {
		return begun{}, nil, fmt.Errorf("%s: %w", path, fs.ErrInvalid)
	}
	for lines.Scan() {
		var s sent
		if json.Unmarshal(lines.Bytes(), &s) == nil && s.ETag != "" { // the last line may be half of one
			done[s.Part] = s.ETag
		}
	}
	return b, done, lines.Err()
}

// begin makes the memo that of a new upload, or goes on with the old one when b
// is as it was. What cannot be written down is not remembered.
func (m *memo) begin(b begun, again bool) {
	if m.path == "" {
		return
	}
	flags := os.O_WRONLY | os.O_APPEND
	if !again {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | os.O_APPEND
		clear(m.done)
	}
	m.begun = b
	file, err := os.OpenFile(m.path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(m.uploads.dir, 0o700) == nil {
		file, err = os.OpenFile(m.path, flags, 0o600)
	}
	if err != nil {
		return
	}
	m.file = file
	if !again {
		m.write(b)
	}
}

func (m *memo) write(line any) {
	if b, err := json.Marshal(line); err == nil {
		m.file.Write(append(b, '\n'))
	}
}

// keeps reports whether parts are remembered.
func (m *memo) keeps() bool { return m.file != nil }

// etag returns the ETag of a part that was sent, "" when it was not.
func (m *memo) etag(part int32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done[part]
}

// note remembers a part that was sent and is what the plan says.
func (m *memo) note(part int32, etag string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[part] = etag
	m.write(sent{part, etag})
}

// close ends the upload, for now unless it is over.
func (m *memo) close(over bool) {
	if m.file != nil {
		m.file.Close()
	}
	if m.path == "" {
		return
	}
	if over {
		os.Remove(m.path)
	}
	m.uploads.mu.Lock()
	defer m.uploads.mu.Unlock()
	delete(m.uploads.active, m.path)
}

// AbortUploads aborts the uploads that an Assemble of this process or of an
// earlier one left and nobody went on with since before. It returns how many.
func (s *Store) AbortUploads(ctx context.Context, before time.Time) (n int, err error) {
	if s.uploads.dir == "" {
		return 0, nil
	}
	entries, err := os.ReadDir(s.uploads.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		fi, gone := e.Info()
		if gone != nil || !fi.ModTime().Before(before) {
			continue
		}
		aborted, failed := s.abandon(ctx, filepath.Join(s.uploads.dir, e.Name()))
		if aborted {
			n++
		}
		err = errors.Join(err, failed)
	}
	return n, err
}

// abandon aborts the upload that a memo's file is about, and forgets it.
func (s *Store) abandon(ctx context.Context, path string) (bool, error) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock() // nobody begins it meanwhile
	b, _, err := readMemo(path)
	switch {
	case s.uploads.active[path]:
		return false, nil
	case err != nil:
		return false, os.Remove(path) // half a line, of a process that was killed
	case b.Bucket != s.wire.base.String():
		return false, nil
	}
	if err := s.abort(ctx, b.Key, b.ID); err != nil {
		return false, s.fail(ctx, objstore.OpAssemble, strings.TrimPrefix(b.Key, s.prefix), err)
	}
	return true, os.Remove(path)
}
