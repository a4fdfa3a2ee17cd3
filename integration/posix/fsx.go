//go:build linux

package posix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FSXOptions say what FSX does beside reads, writes and truncates.
type FSXOptions struct {
	MMap      bool  // reads and writes through shared mappings
	MaxSize   int64 // of the file; 0 is 256 KiB
	CloseOpen bool  // closes and opens the file, also for appends
	Fsync     bool
	// Rarely is how many operations there are to one that closes or syncs, which
	// wait for the store; 0 takes those as often as any other.
	Rarely int
	// MayLack lets the file system refuse a kind of fallocate with EOPNOTSUPP;
	// it is not tried again then.
	MayLack bool
	// Between, when not nil, is called before every operation with the file's
	// path: a place to spoil caches from.
	Between func(op int, path string)
}

// FSX does ops random operations on one new file in dir and compares what it
// reads, and the file's size, with a model in memory. The seed decides all of
// them; a failure names it and the last operations.
func FSX(t testing.TB, dir string, seed uint64, ops int, opt FSXOptions) {
	t.Helper()
	x := newFSX(dir, seed, opt)
	x.told = func() { t.Logf("fsx, seed %d: %d of %d operations", seed, x.count, ops) }
	if err := x.run(ops); err != nil {
		t.Fatalf("fsx, seed %d, operation %d of %d on %s: %v\nlast operations:\n%s", seed, x.count, ops, x.path, err, x.story())
	}
	if err := os.Remove(x.path); err != nil {
		t.Fatal(err)
	}
}

const (
	fsxSize    = 256 << 10
	fsxLargest = 64 << 10 // bytes of one operation
	fsxStory   = 24       // operations that a failure shows
	fsxTell    = 100_000  // operations between words about them
)

// An fsx is one file and what it should hold.
type fsx struct {
	path  string
	opt   FSXOptions
	rnd   *rand.Rand
	file  *os.File
	model []byte
	noise []byte // where writes come from
	buf   []byte
	kinds []fsxKind
	// durable are the kinds that are done rarely.
	durable []fsxKind
	lacks   map[string]bool
	count   int
	told    func() // is called now and then in a long run
	recent  [fsxStory]fsxOp
}

// An fsxKind is an operation on size bytes from off.
type fsxKind struct {
	name string
	do   func(off, size int64) error
}

type fsxOp struct {
	name      string
	off, size int64
	was       int64 // the file's size before
}

func newFSX(dir string, seed uint64, opt FSXOptions) *fsx {
	if opt.MaxSize == 0 {
		opt.MaxSize = fsxSize
	}
	x := &fsx{path: filepath.Join(dir, fmt.Sprintf("fsx-%d", seed)), opt: opt, rnd: rand.New(rand.NewPCG(seed, 0)), lacks: map[string]bool{}}
	x.noise, x.buf = make([]byte, 1<<20+fsxLargest), make([]byte, opt.MaxSize+1)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	source.Read(x.noise)
	x.kinds, x.durable = x.allKinds(), x.durableKinds()
	if opt.Rarely == 0 {
		x.kinds, x.durable = append(x.kinds, x.durable...), nil
	}
	return x
}

func (x *fsx) allKinds() []fsxKind {
	kinds := []fsxKind{
		{"read", x.read}, {"read", x.read}, {"write", x.write}, {"write", x.write}, {"append", x.append},
		{"truncate", x.truncate}, {"truncate by path", x.truncatePath}, {"truncate to 0", x.empty},
		{"allocate", x.allocate}, {"punch hole", x.punch}, {"zero range", x.zero},
		{"copy range", x.copyRange},
	}
	if x.opt.MMap {
		kinds = append(kinds, fsxKind{"map read", x.mapRead}, fsxKind{"map write", x.mapWrite}, fsxKind{"map write", x.mapWrite})
	}
	return kinds
}

// durableKinds are those after which the store has the file.
func (x *fsx) durableKinds() []fsxKind {
	var kinds []fsxKind
	if x.opt.CloseOpen {
		kinds = append(kinds, fsxKind{"close and open", x.reopen}, fsxKind{"append elsewhere", x.appendElsewhere})
	}
	if x.opt.Fsync {
		kinds = append(kinds, fsxKind{"fsync", x.fsync}, fsxKind{"fdatasync", x.fdatasync})
	}
	return kinds
}

func (x *fsx) run(ops int) error {
	file, err := os.OpenFile(x.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	x.file = file
	for x.count = range ops {
		if x.count%fsxTell == 0 && x.count > 0 {
			x.told()
		}
		if err := x.step(); err != nil {
			x.file.Close()
			return err
		}
	}
	if err := x.reopen(0, 0); err != nil {
		x.file.Close()
		return fmt.Errorf("at the end: %w", err)
	}
	return x.file.Close()
}

// step does one operation of random kind and place.
func (x *fsx) step() error {
	if x.opt.Between != nil {
		x.opt.Between(x.count, x.path)
	}
	kinds := x.kinds
	if len(x.durable) > 0 && x.rnd.IntN(x.opt.Rarely) == 0 {
		kinds = x.durable
	}
	kind := kinds[x.rnd.IntN(len(kinds))]
	off := x.rnd.Int64N(x.opt.MaxSize)
	size := 1 + x.rnd.Int64N(min(fsxLargest, x.opt.MaxSize-off))
	x.recent[x.count%fsxStory] = fsxOp{kind.name, off, size, int64(len(x.model))}
	err := kind.do(off, size)
	if errors.Is(err, unix.EOPNOTSUPP) && x.opt.MayLack {
		x.forget(kind.name)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind.name, err)
	}
	return x.checkSize()
}

// forget drops a kind that the file system lacks.
func (x *fsx) forget(name string) {
	kinds := x.kinds[:0]
	for _, k := range x.kinds {
		if k.name != name {
			kinds = append(kinds, k)
		}
	}
	x.kinds = kinds
}

func (x *fsx) checkSize() error {
	fi, err := x.file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != int64(len(x.model)) {
		return fmt.Errorf("the file has %d bytes, want %d", fi.Size(), len(x.model))
	}
	return nil
}

// grow makes the model at least size long, with zeros.
func (x *fsx) grow(size int64) {
	if have := int64(len(x.model)); size > have {
		x.model = append(x.model, make([]byte, size-have)...)
	}
}

// bytes returns size bytes to be written.
func (x *fsx) bytes(size int64) []byte {
	from := x.rnd.IntN(1 << 20)
	return x.noise[from : int64(from)+size]
}

func (x *fsx) read(off, size int64) error {
	got := x.buf[:size]
	n, err := x.file.ReadAt(got, off)
	if err != nil && err != io.EOF {
		return err
	}
	return x.compare(got[:n], off, size)
}

// compare wants got to be what the model has from off, at most size bytes.
func (x *fsx) compare(got []byte, off, size int64) error {
	have := int64(len(x.model))
	want := x.model[min(off, have):min(off+size, have)]
	if bytes.Equal(got, want) {
		return nil
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes at %d, want %d", len(got), off, len(want))
	}
	return different(got, want, off)
}

// different says where two slices of one length differ.
func different(got, want []byte, off int64) error {
	first, last, n := -1, 0, 0
	for i := range got {
		if got[i] != want[i] {
			if first < 0 {
				first = i
			}
			last, n = i, n+1
		}
	}
	return fmt.Errorf("%d bytes differ from 0x%x to 0x%x: got %x, want %x", n, off+int64(first), off+int64(last),
		got[first:min(first+8, len(got))], want[first:min(first+8, len(want))])
}

func (x *fsx) write(off, size int64) error {
	b := x.bytes(size)
	if _, err := x.file.WriteAt(b, off); err != nil {
		return err
	}
	x.grow(off + size)
	copy(x.model[off:], b)
	return nil
}

func (x *fsx) append(_, size int64) error {
	end := int64(len(x.model))
	if end >= x.opt.MaxSize {
		return nil
	}
	return x.write(end, min(size, x.opt.MaxSize-end))
}

// appendElsewhere writes by another descriptor, opened for appending, and
// closes it.
func (x *fsx) appendElsewhere(_, size int64) error {
	end := int64(len(x.model))
	size = min(size, x.opt.MaxSize-end)
	f, err := os.OpenFile(x.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(x.bytesInto(end, size)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// bytesInto puts new bytes into the model and returns them.
func (x *fsx) bytesInto(off, size int64) []byte {
	x.grow(off + size)
	copy(x.model[off:off+size], x.bytes(size))
	return x.model[off : off+size]
}

func (x *fsx) truncate(off, _ int64) error { return x.cut(off, x.file.Truncate(off)) }

func (x *fsx) truncatePath(off, _ int64) error { return x.cut(off, os.Truncate(x.path, off)) }

func (x *fsx) empty(_, _ int64) error { return x.cut(0, x.file.Truncate(0)) }

func (x *fsx) cut(size int64, err error) error {
	if err == nil {
		x.grow(size)
		x.model = x.model[:size]
	}
	return err
}

func (x *fsx) fallocate(mode uint32, off, size int64) error {
	for {
		err := unix.Fallocate(int(x.file.Fd()), mode, off, size)
		if err != unix.EINTR {
			return err
		}
	}
}

func (x *fsx) allocate(off, size int64) error {
	if err := x.fallocate(0, off, size); err != nil {
		return err
	}
	x.grow(off + size)
	return nil
}

func (x *fsx) punch(off, size int64) error {
	return x.clear(off, size, x.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size))
}

func (x *fsx) zero(off, size int64) error {
	return x.clear(off, size, x.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, size))
}

func (x *fsx) clear(off, size int64, err error) error {
	if have := int64(len(x.model)); err == nil && off < have {
		clear(x.model[off:min(off+size, have)])
	}
	return err
}

// copyRange copies within the file, where source and target do not overlap.
func (x *fsx) copyRange(off, size int64) error {
	to := x.rnd.Int64N(x.opt.MaxSize)
	size = min(size, int64(len(x.model))-off, x.opt.MaxSize-to, max(to-off, off-to))
	if size <= 0 {
		return nil
	}
	if err := copyRange(x.file, x.file, off, to, size); err != nil {
		return err
	}
	x.grow(to + size)
	copy(x.model[to:to+size], x.model[off:off+size])
	return nil
}

// copyRange is copy_file_range until all is copied.
func copyRange(in, out *os.File, from, to, size int64) error {
	for size > 0 {
		n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(size), 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("copy_file_range stopped %d bytes early", size)
		}
		size -= int64(n)
	}
	return nil
}

func (x *fsx) fsync(_, _ int64) error { return x.file.Sync() }

func (x *fsx) fdatasync(_, _ int64) error { return unix.Fdatasync(int(x.file.Fd())) }

// reopen closes the file, opens it again and compares all of it.
func (x *fsx) reopen(_, _ int64) error {
	if err := x.file.Close(); err != nil {
		return err
	}
	file, err := os.OpenFile(x.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	x.file = file
	return x.read(0, x.opt.MaxSize+1)
}

// story tells the last operations, oldest first.
func (x *fsx) story() string {
	var b strings.Builder
	for n := max(0, x.count-fsxStory+1); n <= x.count; n++ {
		op := x.recent[n%fsxStory]
		fmt.Fprintf(&b, "%8d %-16s 0x%06x..0x%06x, size was 0x%06x\n", n, op.name, op.off, op.off+op.size, op.was)
	}
	return b.String()
}
