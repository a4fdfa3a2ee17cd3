package mount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	filestore "github.com/skyagent/skyagent/objstore/file"
)

// baseOf stores content and returns what reads it.
func baseOf(t *testing.T, content []byte) *blocks.Reader {
	t.Helper()
	store, err := filestore.New(filestore.Config{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	info, err := store.Put(t.Context(), "k", bytes.NewReader(content), int64(len(content)), objstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := blocks.Open(blocks.Options{Dir: t.TempDir(), Store: store, Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	return cache.Reader(blocks.Object{Key: "k", Rev: info.Rev, Size: int64(len(content)), Hash: manifest.Sum(content)})
}

// TestStageAgainstModel changes a stage over a former content at random, and
// compares every read with a plain slice.
func TestStageAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		model := make([]byte, rnd.IntN(100_000))
		for i := range model {
			model[i] = byte(rnd.Uint32())
		}
		s, err := newStage(t.TempDir(), baseOf(t, model), int64(len(model)))
		if err != nil {
			t.Fatal(err)
		}
		former := bytes.Clone(model)
		for op := range 200 {
			model = changeBoth(t, rnd, s, model)
			compareStage(t, s, model, seed, op)
		}
		compareParts(t, s, former, model, seed)
		s.close()
	}
}

// changeBoth makes one change of the stage and of the model.
func changeBoth(t *testing.T, rnd *rand.Rand, s *stage, model []byte) []byte {
	t.Helper()
	ctx := context.Background()
	off, n := rnd.IntN(110_000), rnd.IntN(9000)
	var err error
	switch rnd.IntN(4) {
	case 0:
		err = s.truncate(ctx, int64(off))
		model = append(model, make([]byte, max(0, off-len(model)))...)[:off:off]
	case 1:
		n = min(n, len(model)-off)
		if n > 0 {
			err = s.zero(ctx, int64(off), int64(n))
			clear(model[off : off+n])
		}
	default:
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		err = s.writeAt(ctx, p, int64(off))
		if n > 0 {
			model = append(model, make([]byte, max(0, off+n-len(model)))...)
			copy(model[off:], p)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func compareStage(t *testing.T, s *stage, model []byte, seed uint64, op int) {
	t.Helper()
	got := make([]byte, len(model)+10)
	n, err := s.readAt(context.Background(), got, 0)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:n], model) {
		t.Fatalf("seed %d, operation %d: %d bytes differ from %d of the model", seed, op, n, len(model))
	}
}

// compareParts checks that what the stage calls untouched is as it was.
func compareParts(t *testing.T, s *stage, former, model []byte, seed uint64) {
	t.Helper()
	for off := 0; off < min(len(former), len(model), int(s.full)); off += stretch {
		end := min(off+stretch, len(former), len(model))
		if !s.changed.has(int64(off/stretch)) && !bytes.Equal(former[off:end], model[off:end]) {
			t.Errorf("seed %d: bytes from %d on have changed unseen", seed, off)
		}
	}
}

// TestStageGiven: what was written becomes the cache's without a copy, where both
// lie on one file system.
func TestStageGiven(t *testing.T) {
	dir, content := t.TempDir(), bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
	cache, err := blocks.Open(blocks.Options{Dir: filepath.Join(dir, "cache"), Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	s, err := newStage(dir, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.writeAt(t.Context(), content, 0); err != nil {
		t.Fatal(err)
	}
	o := blocks.Object{Key: "k", Rev: "1", Size: int64(len(content)), Hash: manifest.Sum(content)}
	if err := s.giveTo(cache, o); err != nil {
		t.Fatal(err)
	}
	kept, ok := cache.File(o)
	if !ok {
		t.Fatal("the cache does not have it")
	}
	defer kept.Close()
	if got, err := io.ReadAll(kept); err != nil || !bytes.Equal(got, content) {
		t.Errorf("cache has %d other bytes: %v", len(got), err)
	}
	ours, err := s.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := kept.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(ours, theirs) {
		t.Error("it was copied")
	}
}

// TestStageDiskFull writes more than the disk takes: no byte of that is beyond
// the end, for whoever makes the file longer to find.
func TestStageDiskFull(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("unmount the disk: %v", err)
		}
	})
	s, err := newStage(disk, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.writeAt(t.Context(), []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.writeAt(t.Context(), bytes.Repeat([]byte("x"), 1<<20), 4); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write of 1 MiB on a disk of 256 KiB: %v, want ENOSPC", err)
	}
	if err := s.truncate(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	if _, err := s.readAt(t.Context(), got, 0); err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("kept"), make([]byte, 96)...); !bytes.Equal(got, want) {
		t.Errorf("the stage holds %q, want %q", got, want)
	}
}

// TestStagedBytes sums up stages as they grow, shrink and go.
func TestStagedBytes(t *testing.T) {
	m := &FS{}
	want := func(n int64) {
		t.Helper()
		if got := m.count.staged.Load(); got != n {
			t.Errorf("%d bytes are staged, want %d", got, n)
		}
	}
	var stages []*stage
	for range 2 {
		s, err := newStage(t.TempDir(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		stages = append(stages, m.counted(s))
		if err := s.writeAt(t.Context(), make([]byte, 100), 50); err != nil {
			t.Fatal(err)
		}
	}
	want(300)
	if err := stages[0].truncate(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	want(160)
	stages[1].close()
	want(10)
	stages[0].close()
	want(0)
}
