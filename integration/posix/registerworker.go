//go:build linux

package posix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A registerJob is what a worker is told on its standard input.
type registerJob struct {
	RegistersOptions
	Worker int
	Dir    string
	Locks  string // a directory for the locks of all workers on Dir; "" is none
}

// A workerLine is what a worker says: an operation, or why it gave up.
type workerLine struct {
	Op
	Wrong string `json:",omitempty"`
}

// A registerWorker does one operation after another.
type registerWorker struct {
	registerJob
	rnd    *rand.Rand
	locks  []*os.File
	writes uint32
}

// registersMain is a worker: it reads its job, says that it is ready, waits for
// a line, works, and logs at the end, since to log is to wait.
func registersMain() error {
	w := &registerWorker{}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	if err := json.Unmarshal(line, &w.registerJob); err != nil {
		return fmt.Errorf("decode the job: %w", err)
	}
	w.rnd = rand.New(rand.NewPCG(w.Seed, uint64(w.Worker)))
	if err := w.openLocks(); err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := in.ReadBytes('\n'); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	return w.run()
}

func (w *registerWorker) run() error {
	out := bufio.NewWriter(os.Stdout)
	log := json.NewEncoder(out)
	var ops []Op
	for range w.Ops / w.Workers {
		op, err := w.op()
		if err != nil {
			log.Encode(workerLine{Wrong: fmt.Sprintf("worker %d, operation %d, %s of register %d: %v", w.Worker, len(ops), op.Kind, op.Register, err)})
			break
		}
		ops = append(ops, op)
	}
	for _, op := range ops {
		if err := log.Encode(workerLine{Op: op}); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (w *registerWorker) openLocks() error {
	if w.Locks == "" {
		return nil
	}
	if err := os.MkdirAll(w.Locks, 0o755); err != nil {
		return err
	}
	for i := range w.Files {
		f, err := os.OpenFile(filepath.Join(w.Locks, fmt.Sprint(i)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		w.locks = append(w.locks, f)
	}
	return nil
}

// turn waits until nobody of the same directory is in the way.
func (w *registerWorker) turn(register, how int) (done func(), err error) {
	if w.Locks == "" {
		return func() {}, nil
	}
	f := w.locks[register]
	return func() { flock(f, unix.LOCK_UN) }, flock(f, how)
}

// op does a random operation; err is what no file system should answer.
func (w *registerWorker) op() (op Op, err error) {
	op = Op{Worker: w.Worker, Register: w.rnd.IntN(w.Files)}
	path, how := register(w.Dir, op.Register), unix.LOCK_SH
	var do func() error
	switch n := w.rnd.IntN(100); {
	case n < 55:
		op.Kind, do = "read", func() (err error) { op.Value, err = readValue(path); return err }
	case n < 80, w.InPlace:
		op.Kind, op.Write, op.Value, how = "write", true, w.value(), unix.LOCK_EX
		do = func() error { return writeValue(path, op.Value, w.rnd) }
	case n < 93:
		op.Kind, op.Write, op.Value = "rename", true, w.value()
		do = func() error { return w.replace(path, op.Value) }
	default:
		op.Kind, op.Write = "unlink", true
		do = func() error { return unix.Unlink(path) }
	}
	done, err := w.turn(op.Register, how)
	if err != nil {
		return op, err
	}
	defer done()
	op.Begin = monotonic()
	err = do()
	op.End = monotonic()
	return w.outcome(op, err)
}

// outcome says what an operation's error means.
func (w *registerWorker) outcome(op Op, err error) (Op, error) {
	switch {
	case err == nil:
	case errors.Is(err, unix.ENOENT) && (op.Kind == "read" || op.Kind == "unlink"):
		op.Kind, op.Write, op.Value = "find nothing to "+op.Kind, false, 0
	case errors.Is(err, unix.ESTALE):
		op.Refused = true
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EAGAIN):
		op.Unknown, op.Refused = op.Write, !op.Write
	default:
		return op, err
	}
	return op, nil
}

// replace writes a new file and renames it over path. What is left of it after
// an error is removed.
func (w *registerWorker) replace(path string, value uint32) error {
	tmp := filepath.Join(w.Dir, fmt.Sprintf("new-%d-%d", w.Worker, value&0xff))
	err := writeValue(tmp, value, w.rnd)
	if err == nil {
		err = unix.Rename(tmp, path)
	}
	if err != nil {
		unix.Unlink(tmp)
	}
	return err
}

// value returns a value that nobody else writes.
func (w *registerWorker) value() uint32 {
	w.writes++
	return uint32(w.Worker+1)<<24 | w.writes
}

func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
