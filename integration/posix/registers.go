//go:build linux

package posix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// RegistersOptions say how much Registers does. Zeros are the defaults.
type RegistersOptions struct {
	Files   int    // registers; 8
	Ops     int    // of all workers together; 10,000
	Workers int    // processes, in turn on the directories; two for each
	Seed    uint64 // decides what each worker does, though not when
	// Overlap lets workers of one directory write in place at the same time as
	// others of it read or write: then a local file system too shows files that
	// are half written.
	Overlap bool
	// InPlace leaves out what changes names: files are there from the start, and
	// only read and written in place.
	InPlace bool
}

// Registers lets several processes read, write, unlink and replace the same few
// files through directories that should show the same, and fails unless what
// all of them saw has an explanation in which each operation takes effect at
// one moment between its call and its return: no read that began after a
// write's close may miss it, and no content is anything but one write's.
//
// A write in place is open with O_TRUNC, writes, close; a replacement is a new
// file and a rename. ESTALE means that a write did not happen, any other errno
// of EIO, ETIMEDOUT and EAGAIN that nobody knows; everything else fails the test.
// Workers of one directory take turns where one writes in place, with a lock
// elsewhere: what they see of each other is the kernel's affair.
func Registers(t testing.TB, dirs []string, opt RegistersOptions) {
	t.Helper()
	opt = opt.filled(len(dirs))
	locks := t.TempDir()
	made := makeRegisters(t, dirs[0], opt)
	var children []*child
	for w := range opt.Workers {
		c := start(t, "registers")
		job := registerJob{RegistersOptions: opt, Worker: w, Dir: dirs[w%len(dirs)]}
		if job.Locks = filepath.Join(locks, fmt.Sprint(w%len(dirs))); opt.Overlap {
			job.Locks = ""
		}
		if err := json.NewEncoder(c.in).Encode(job); err != nil {
			t.Fatalf("tell worker %d: %v", w, err)
		}
		children = append(children, c)
	}
	ops := append(made, collect(t, children)...)
	began := time.Now()
	if err := Linearizable(ops); err != nil {
		t.Fatalf("seed %d: %v\nit was %d at %s", opt.Seed, err, monotonic(), time.Now().UTC().Format(time.RFC3339Nano))
	}
	counts := tally(ops)
	t.Logf("seed %d: %v; checked in %v", opt.Seed, counts, time.Since(began).Round(time.Millisecond))
	if happened := len(ops) - counts["refused"]; happened < opt.Ops/4 {
		t.Fatalf("seed %d: only %d of %d operations happened: this shows nothing", opt.Seed, happened, opt.Ops)
	}
	sweep(t, dirs[0])
}

// sweep removes the registers, and what was kept beside them after a conflict.
func sweep(t testing.TB, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "register-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			t.Errorf("remove a register: %v", err)
		}
	}
}

func (o RegistersOptions) filled(dirs int) RegistersOptions {
	set := func(v *int, otherwise int) {
		if *v == 0 {
			*v = otherwise
		}
	}
	set(&o.Files, 8)
	set(&o.Ops, 10_000)
	set(&o.Workers, 2*dirs)
	return o
}

// collect lets all workers go at once and returns what they did.
func collect(t testing.TB, children []*child) []Op {
	t.Helper()
	for w, c := range children { // each says a line when it is ready
		if _, err := c.out.ReadString('\n'); err != nil {
			t.Fatalf("start worker %d: %v", w, err)
		}
	}
	for w, c := range children {
		if _, err := fmt.Fprintln(c.in); err != nil {
			t.Fatalf("let worker %d go: %v", w, err)
		}
	}
	results := make(chan workerResult)
	for _, c := range children {
		go func() { results <- c.result() }()
	}
	var all []Op
	var wrong []error
	for range children {
		r := <-results
		all = append(all, r.ops...)
		if r.err != nil {
			wrong = append(wrong, r.err)
		}
	}
	if len(wrong) > 0 {
		t.Fatalf("%v", errors.Join(wrong...))
	}
	return all
}

type workerResult struct {
	ops []Op
	err error
}

// result reads what a worker did until it ends.
func (c *child) result() (r workerResult) {
	d := json.NewDecoder(c.out)
	for {
		var line workerLine
		if err := d.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			return workerResult{err: fmt.Errorf("read a worker's log: %w", err)}
		}
		if line.Wrong != "" {
			r.err = errors.New(line.Wrong)
		} else {
			r.ops = append(r.ops, line.Op)
		}
	}
	if err := c.wait(); err != nil && r.err == nil {
		r.err = fmt.Errorf("wait for a worker: %w", err)
	}
	return r
}

// tally counts operations for the log.
func tally(ops []Op) map[string]int {
	counts := map[string]int{}
	for _, op := range ops {
		switch {
		case op.Refused:
			counts["refused"]++
		case op.Unknown:
			counts["unknown"]++
		default:
			counts[op.Kind]++
		}
	}
	return counts
}

func register(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("register-%d", i)) }

// makeRegisters writes a first value to every register, where no worker will
// make them.
func makeRegisters(t testing.TB, dir string, opt RegistersOptions) []Op {
	t.Helper()
	if !opt.InPlace {
		return nil
	}
	w := &registerWorker{registerJob: registerJob{RegistersOptions: opt, Worker: opt.Workers}, rnd: rand.New(rand.NewPCG(opt.Seed, 0))}
	var ops []Op
	for i := range opt.Files {
		op := Op{Worker: w.Worker, Register: i, Kind: "write", Write: true, Value: w.value(), Begin: monotonic()}
		if err := writeValue(register(dir, i), op.Value, w.rnd); err != nil {
			t.Fatalf("make register %d: %v", i, err)
		}
		op.End = monotonic()
		ops = append(ops, op)
	}
	return ops
}
