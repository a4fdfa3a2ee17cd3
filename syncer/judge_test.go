package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

const logPrefix = ".skyagent/sources/main/log/"

// A judge is a bucket in memory that fails the test when a commit names bytes
// that are not there, or an object goes before the commit that drops it.
type judge struct {
	*storetest.Memory
	t testing.TB

	mu    sync.Mutex // guards all below; held while a commit is judged
	head  *manifest.Manifest
	pos   uint64
	known map[manifest.Hash]bool // every content that was committed
	sent  int64                  // bytes of content that came with Put and Assemble
	puts  int                    // of user content
	ops   int
}

func newJudge(t testing.TB) *judge {
	return &judge{Memory: storetest.NewMemory(), t: t, head: manifest.New(), known: map[manifest.Hash]bool{}}
}

func reserved(key string) bool { return strings.HasPrefix(key, manifest.Reserved+"/") }
func conflict(key string) bool { return strings.Contains(key, ".skyagent-conflict-") }

func (j *judge) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops++
	if !strings.HasPrefix(key, logPrefix) {
		info, err := j.Memory.Put(ctx, key, body, size, opts)
		if err == nil && !reserved(key) {
			j.sent += size
			j.puts++
		}
		return info, err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return objstore.Info{}, err
	}
	_, there := j.Bytes(key)
	info, err := j.Memory.Put(ctx, key, bytes.NewReader(b), size, opts)
	if got, ok := j.Bytes(key); ok && !there && bytes.Equal(got, b) { // whatever the answer was
		j.commit(key, b)
	}
	return info, err
}

// commit checks what a commit says.
func (j *judge) commit(key string, b []byte) {
	c, err := manifest.DecodeCommit(b)
	if err != nil {
		j.t.Errorf("commit %s: %v", key, err)
		return
	}
	if c.Generation != j.pos+1 {
		j.t.Errorf("commit %d follows %d", c.Generation, j.pos)
	}
	for _, ch := range c.Changes {
		if ch.Op == manifest.Put && !ch.IsDir() {
			j.known[ch.Hash] = true
			if wrong := j.object(ch.File); wrong != "" {
				j.t.Errorf("generation %d names %s", c.Generation, wrong)
			}
		}
	}
	j.pos = c.Generation
	j.head.Apply(c.Changes)
	for _, ch := range c.Changes {
		for f := range j.head.Below(ch.Path) {
			if ch.Op == manifest.Delete {
				j.t.Errorf("generation %d deletes %s above %s", c.Generation, ch.Path, f.Path)
				break
			}
		}
	}
	for f := range j.head.All() {
		if dir, ok := j.head.Get(f.Path.Dir()); f.Path.Dir() != "" && ok && !dir.IsDir() {
			j.t.Errorf("generation %d has %s below a file", c.Generation, f.Path)
		}
	}
}

// object says how the bucket does not hold f.
func (j *judge) object(f manifest.File) string {
	b, ok := j.Bytes(string(f.Path))
	info, _ := j.Memory.Head(context.Background(), string(f.Path))
	switch {
	case !ok:
		return fmt.Sprintf("%s, which is not there", f.Path)
	case manifest.Sum(b) != f.Hash || int64(len(b)) != f.Size:
		return fmt.Sprintf("%s of %d bytes, the object has %d others", f.Path, f.Size, len(b))
	case string(info.Rev) != f.Rev:
		return fmt.Sprintf("%s at revision %s, the object is at %s", f.Path, f.Rev, info.Rev)
	}
	return ""
}

func (j *judge) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := j.Memory.Assemble(ctx, key, base, parts, check, opts)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops++
	if err == nil {
		_, fresh := objstore.PartsSize(parts)
		j.sent += fresh
		j.puts++
	}
	return info, err
}

func (j *judge) Delete(ctx context.Context, keys ...string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops++
	for _, key := range keys {
		if f, ok := j.head.Get(manifest.Path(key)); ok && !f.IsDir() {
			j.t.Errorf("object %s is deleted although generation %d names it", key, j.pos)
		}
	}
	return j.Memory.Delete(ctx, keys...)
}

// state returns the committed manifest and how the bucket does not hold it:
// objects that are wrong, which they may be while an upload waits for its
// commit, and objects that it does not name, conflict copies apart.
func (j *judge) state() (m *manifest.Manifest, wrong, orphans []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for f := range j.head.All() {
		if f.IsDir() {
			continue
		}
		if w := j.object(f); w != "" {
			wrong = append(wrong, w)
		}
	}
	for _, key := range j.Keys() {
		if f, ok := j.head.Get(manifest.Path(key)); !reserved(key) && !conflict(key) && (!ok || f.IsDir()) {
			orphans = append(orphans, key)
		}
	}
	return j.head.Clone(), wrong, orphans
}

func (j *judge) uploaded() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sent
}

func (j *judge) committed(h manifest.Hash) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known[h]
}

// exposes checks that every final name in dir holds committed bytes.
func (j *judge) exposes(dir string) {
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == manifest.Reserved {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || conflict(p) {
			return nil
		}
		b, err := os.ReadFile(p)
		if err == nil && !j.committed(manifest.Sum(b)) {
			j.t.Errorf("%s shows %d bytes that nobody committed", p, len(b))
		}
		return nil
	})
}

var errStore = errors.New("the store is away")

// A shaky store fails now and then, and for ever once it is dead.
type shaky struct {
	objstore.Store
	mu   sync.Mutex // guards all below
	rand *rand.Rand
	rate float64 // of operations that fail
	left int     // operations until it dies; negative never
	dies func()
}

// roll decides on one operation: fail it before, or lose its answer.
func (s *shaky) roll() (before, after error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return errStore, nil
	}
	if s.left > 0 {
		if s.left--; s.left == 0 {
			s.dies()
			if s.rand.IntN(2) == 0 {
				return errStore, nil
			}
			return nil, errStore
		}
	}
	switch r := s.rand.Float64(); {
	case r < s.rate/2:
		return fmt.Errorf("before: %w", errStore), nil
	case r < s.rate:
		return nil, fmt.Errorf("after: %w", errStore)
	}
	return nil, nil
}

// shake runs one operation.
func shake[T any](s *shaky, f func() (T, error)) (T, error) {
	var none T
	before, after := s.roll()
	if before != nil {
		return none, before
	}
	v, err := f()
	if err == nil && after != nil {
		return none, after
	}
	return v, err
}

func (s *shaky) Head(ctx context.Context, key string) (objstore.Info, error) {
	return shake(s, func() (objstore.Info, error) { return s.Store.Head(ctx, key) })
}

func (s *shaky) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	var info objstore.Info
	body, err := shake(s, func() (body io.ReadCloser, err error) {
		body, info, err = s.Store.Get(ctx, key, off, n, cond)
		return body, err
	})
	return body, info, err
}

func (s *shaky) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	return shake(s, func() (objstore.Info, error) { return s.Store.Put(ctx, key, body, size, opts) })
}

func (s *shaky) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	return shake(s, func() (objstore.Info, error) { return s.Store.Assemble(ctx, key, base, parts, check, opts) })
}

func (s *shaky) Copy(ctx context.Context, dst, src string, rev objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	return shake(s, func() (objstore.Info, error) { return s.Store.Copy(ctx, dst, src, rev, opts) })
}

func (s *shaky) Delete(ctx context.Context, keys ...string) error {
	_, err := shake(s, func() (struct{}, error) { return struct{}{}, s.Store.Delete(ctx, keys...) })
	return err
}

func (s *shaky) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	if before, lost := s.roll(); before != nil || lost != nil {
		return func(yield func(objstore.Info, error) bool) { yield(objstore.Info{}, errStore) }
	}
	return s.Store.List(ctx, prefix, after)
}
