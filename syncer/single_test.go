package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
	"github.com/skyagent/skyagent/syncer"
)

// A single is one object, and the file that follows it.
type single struct {
	*testing.T
	store *storetest.Memory
	file  string
	opt   syncer.ObjectOptions
	wake  chan struct{}
}

func newSingle(t *testing.T) *single {
	s := &single{T: t, store: storetest.NewMemory(), wake: make(chan struct{}, 1)}
	s.file = filepath.Join(t.TempDir(), "dir", "name")
	s.opt = syncer.ObjectOptions{File: s.file, Store: s.store, Key: "a/key", State: filepath.Join(t.TempDir(), "state"), Wake: s.wake, Poll: time.Hour}
	return s
}

func (s *single) put(content string, meta map[string]string) {
	s.Helper()
	_, err := s.store.Put(s.Context(), "a/key", bytes.NewReader([]byte(content)), int64(len(content)), objstore.PutOptions{Meta: meta})
	if err != nil {
		s.Fatal(err)
	}
}

// follow follows the object until the function it returns is called.
func (s *single) follow() (o *syncer.Object, stop func()) {
	ctx, cancel := context.WithCancel(s.Context())
	o = syncer.NewObject(s.opt)
	ended := make(chan error, 1)
	go func() { ended <- o.Follow(ctx) }()
	return o, func() {
		cancel()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	}
}

// wait wakes the object and waits until the file holds content; "" is no file.
func (s *single) wait(content string) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		b, err := os.ReadFile(s.file)
		if err == nil && content != "" && string(b) == content || errors.Is(err, fs.ErrNotExist) && content == "" {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("the file has %q (%v), want %q", b, err, content)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *single) names() []string {
	s.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.file))
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestObjectFollowed(t *testing.T) {
	t.Parallel()
	s := newSingle(t)
	s.put("one", map[string]string{"mode": "0100755"})
	_, stop := s.follow()
	s.wait("one")
	if fi, err := os.Stat(s.file); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	s.put("two", nil) // the same size
	s.wait("two")
	if err := s.store.Delete(t.Context(), "a/key"); err != nil {
		t.Fatal(err)
	}
	s.wait("")
	s.put("three", nil)
	s.wait("three")
	stop()
	s.put(strings.Repeat("large", 8<<20), nil) // of several ranges
	_, stop = s.follow()
	s.wait(strings.Repeat("large", 8<<20))
	stop()
	if names := s.names(); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}

// TestObjectKeepsLocal wants an edit, and what was there before, to be kept.
func TestObjectKeepsLocal(t *testing.T) {
	t.Parallel()
	s := newSingle(t)
	s.put("object", nil)
	if err := os.MkdirAll(filepath.Dir(s.file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, stop := s.follow()
	s.wait("object")
	if err := os.WriteFile(s.file, []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.put("object 2", nil)
	s.wait("object 2")
	if got := o.Status().Conflicts; got != 2 {
		t.Errorf("%d conflicts", got)
	}
	if names := s.names(); len(names) != 3 {
		t.Errorf("there are %q", names)
	}
	if err := os.WriteFile(s.file, []byte("edited again"), 0o644); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := s.store.Delete(t.Context(), "a/key"); err != nil {
		t.Fatal(err)
	}
	_, stop = s.follow()
	s.wait("edited again") // it is somebody's work
	stop()
}

// TestObjectRestart wants nothing to be fetched again, and no file of ours taken
// for somebody else's, after a crash at any step.
func TestObjectRestart(t *testing.T) {
	t.Parallel()
	s := newSingle(t)
	s.put("one", nil)
	_, stop := s.follow()
	s.wait("one")
	stop()
	o, stop := s.follow()
	for deadline := time.Now().Add(time.Minute); o.Status().State != syncer.StateReady; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
	}
	stop()
	if got := o.Status().Fetched; got != 0 {
		t.Errorf("fetched %d times after a restart", got)
	}
	if err := os.WriteFile(s.opt.State, []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop = s.follow()
	s.wait("one")
	stop()
}

// TestObjectAbsent wants an object that is not there to be an error.
func TestObjectAbsent(t *testing.T) {
	t.Parallel()
	s := newSingle(t)
	if err := syncer.NewObject(s.opt).Follow(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s.put("bad", map[string]string{"blake3": strings.Repeat("0", 63) + "1"})
	if err := syncer.NewObject(s.opt).Follow(t.Context()); err == nil {
		t.Error("bytes with another hash than the object names were placed")
	}
	if names := s.names(); len(names) != 0 {
		t.Errorf("there are %q", names)
	}
}
