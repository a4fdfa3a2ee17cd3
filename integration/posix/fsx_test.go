//go:build linux

package posix_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

// places are directories of the file systems that this machine has.
func places(t *testing.T) map[string]string {
	t.Helper()
	shm, err := os.MkdirTemp("/dev/shm", "skyagent-posix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	return map[string]string{"tmpfs": shm, "disk": t.TempDir()}
}

func TestFSX(t *testing.T) {
	for name, dir := range places(t) {
		ops := map[string]int{"tmpfs": 20_000, "disk": 5_000}[name]
		if testing.Short() {
			ops = 2_000
		}
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(name, "/", seed), func(t *testing.T) {
				opt := posix.FSXOptions{MMap: seed%2 == 0, CloseOpen: seed < 2, MayLack: true}
				posix.FSX(t, dir, seed, ops, opt)
			})
		}
		t.Run(name+"/fsync", func(t *testing.T) {
			posix.FSX(t, dir, 9, 500, posix.FSXOptions{MMap: true, CloseOpen: true, Fsync: true, MaxSize: 10_000, MayLack: true})
		})
	}
}

// A judged is a test that may fail; what it says is kept.
type judged struct {
	testing.TB
	said string
}

func (j *judged) Helper() {}

func (j *judged) Fatalf(format string, args ...any) {
	j.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (j *judged) Fatal(args ...any) {
	j.said = fmt.Sprint(args...)
	runtime.Goexit()
}

// judge returns what a failing test says, and "" when it passes.
func judge(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	j, done := &judged{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		test(j)
	}()
	<-done
	return j.said
}

// A byte that changes, a file that is cut and one that grows are found.
func TestFSXFinds(t *testing.T) {
	dir := t.TempDir()
	for name, spoil := range map[string]func(f *os.File, size int64){
		"a byte":  func(f *os.File, size int64) { flip(t, f, size/2) },
		"its end": func(f *os.File, size int64) { f.Truncate(size - 1) },
		"after":   func(f *os.File, size int64) { writeAfter(t, f, size) },
		"more":    func(f *os.File, size int64) { f.WriteAt([]byte{1}, size) },
	} {
		t.Run(name, func(t *testing.T) {
			said := judge(t, func(tb testing.TB) {
				posix.FSX(tb, dir, 5, 500, posix.FSXOptions{MMap: true, MayLack: true, Between: func(op int, path string) {
					if op >= 100 { // again and again, since the next operation may undo it
						edit(t, path, spoil)
					}
				}})
			})
			if !strings.Contains(said, "seed 5") || !strings.Contains(said, "last operations") {
				t.Errorf("it says %q", said)
			}
		})
	}
}

// edit opens path and spoils it, if it holds enough.
func edit(t *testing.T, path string, spoil func(f *os.File, size int64)) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > 50_000 {
		spoil(f, fi.Size())
	}
}

// writeAfter leaves bytes behind the file's end in its last page, as a mapping can.
func writeAfter(t *testing.T, f *os.File, size int64) {
	page := int64(os.Getpagesize())
	if size%page == 0 {
		return
	}
	pages, err := syscall.Mmap(int(f.Fd()), size/page*page, int(page), syscall.PROT_WRITE|syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Error(err)
		return
	}
	for i := size % page; i < page; i++ {
		pages[i] = 7
	}
	if err := syscall.Munmap(pages); err != nil {
		t.Error(err)
	}
}

func flip(t *testing.T, f *os.File, off int64) {
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Error(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, off); err != nil {
		t.Error(err)
	}
}

// An operation that is refused fails unless the file system may lack it.
func TestFSXLacks(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "skyagent-posix-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	said := judge(t, func(tb testing.TB) { posix.FSX(tb, dir, 1, 1000, posix.FSXOptions{}) })
	if !strings.Contains(said, "zero range: operation not supported") {
		t.Skipf("this kernel's tmpfs lacks nothing: %q", said)
	}
	posix.FSX(t, dir, 1, 1000, posix.FSXOptions{MayLack: true})
}

func BenchmarkFSX(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "skyagent-posix-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	posix.FSX(b, dir, 1, b.N, posix.FSXOptions{MMap: true, CloseOpen: true, MayLack: true})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
