package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/syncer"
)

// A ui is the one place that speaks to people and to programs that read our
// output. It is safe for many goroutines.
type ui struct {
	mu    sync.Mutex // one line at a time
	out   io.Writer
	err   io.Writer
	json  bool
	quiet bool
}

func newUI(out, err io.Writer) *ui { return &ui{out: out, err: err} }

// say prints a line for people on standard output; with --json or -q it is silent.
func (u *ui) say(format string, args ...any) {
	if u.json || u.quiet {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.out, format+"\n", args...)
}

// print prints lines for people as they are; with --json or -q it is silent.
func (u *ui) print(lines string) {
	if lines = strings.TrimSuffix(lines, "\n"); lines != "" {
		u.say("%s", lines)
	}
}

// ask prints a question and returns the answer, a line.
func (u *ui) ask(question string, in io.Reader) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprint(u.err, question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if f, ok := in.(*os.File); !ok || !isTerminal(f) {
		fmt.Fprintln(u.err) // nobody saw the answer's own
	}
	if err == io.EOF && answer != "" {
		err = nil
	}
	return strings.TrimSpace(answer), err
}

// record prints v as one line of JSON when --json was given.
func (u *ui) record(v any) {
	if !u.json {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // records are plain structs: cannot be
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.out, "%s\n", b)
}

// warn prints a line about something that was left out, on standard error.
func (u *ui) warn(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.err, "warning: "+format+"\n", args...)
}

// fail prints an error and, where we can, what to do about it: for the problems
// of a file, and for errors that were joined, each.
func (u *ui) fail(err error) {
	var problems storage.Problems
	if errors.As(err, &problems) {
		for _, problem := range problems {
			u.fail(problem)
		}
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == joined(several.Unwrap()).Error() {
		for _, err := range several.Unwrap() {
			u.fail(err)
		}
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.err, "error: %s\n", oneLine(wordsFor(err)))
	u.hintLocked(err)
}

// hint prints what to do about err, where we can.
func (u *ui) hint(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hintLocked(err)
}

func (u *ui) hintLocked(err error) {
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(u.err, "hint: %s\n", hint)
	}
}

// wordsFor returns err's own words, or fewer where the way to it says nothing.
func wordsFor(err error) string {
	var store *objstore.Error
	if errors.Is(err, objstore.ErrNoBucket) && errors.As(err, &store) {
		return fmt.Sprintf("bucket %s: %v", store.Bucket.URL(), objstore.ErrNoBucket)
	}
	return err.Error()
}

// oneLine joins what errors.Join put on several lines.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}

// A usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A hinted error knows what to do about it.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// usageHint is a mistake in the command line that has a hint of its own.
func usageHint(err error, hint string) error { return hinted{usageError{err}, hint} }

// hintFor returns the next step for a person who sees err; "" when there is none to name.
func hintFor(err error) string {
	var (
		known   hinted
		usage   usageError
		held    *syncer.HeldError
		fenced  *manifest.FencedError
		guarded *syncer.GuardedError
		version *manifest.VersionError
		problem storage.Problem
		left    *mount.LeftError
	)
	switch {
	case errors.As(err, &known):
		return known.hint
	case errors.As(err, &problem):
		return problem.Hint
	case errors.As(err, &usage):
		return "see skyagent help, or skyagent COMMAND --help"
	case errors.As(err, &held):
		return heldHint(held)
	case errors.As(err, &fenced):
		return "another agent writes this source: stop one of the two, then start this one again"
	case errors.As(err, &guarded):
		return "bring the files back, or run again with --allow-mass-delete if the deletion is meant"
	case errors.As(err, &version):
		return "update skyagent on this machine"
	case errors.Is(err, syncer.ErrLeaseGone), errors.Is(err, manifest.ErrGap):
		return "if the bucket was emptied, remove its .skyagent/ too and start again: everything is pushed anew"
	case errors.Is(err, mount.ErrNotEmpty):
		return "choose an empty directory, or hide what is there by --allow-non-empty"
	case errors.Is(err, mount.ErrPoint):
		return "choose a directory that you may make or read"
	case errors.Is(err, mount.ErrNoDevice):
		return "run modprobe fuse; give a container the device: --device /dev/fuse --cap-add SYS_ADMIN"
	case errors.Is(err, mount.ErrBusy):
		return "end the programs that use it first; fuser -vm DIR names them"
	case errors.As(err, &left):
		return leftHint(left)
	case errors.Is(err, mount.ErrInUse):
		return "unmount it first, or choose another directory; skyagent status shows who mounts"
	case errors.Is(err, syncer.ErrInUse):
		return "stop the other one first; skyagent status shows it"
	case errors.Is(err, manifest.ErrNoLog):
		return "start skyagent watch or skyagent sync for this storage first"
	case errors.Is(err, manifest.ErrCorrupt):
		return "run skyagent sync where the source is: it writes a checkpoint that stands in for damaged commits"
	}
	for _, hint := range []string{hostHint(err), storeHint(err)} {
		if hint != "" {
			return hint
		}
	}
	return systemHint(err)
}

func heldHint(held *syncer.HeldError) string {
	if held.Live {
		return "stop that watch first, give this one another storage with --name or --to, or wait until its lease ran out and use --takeover"
	}
	return "use --takeover to make this directory the storage's source, or give it another storage with --name or --to"
}

// systemHint knows the errors of disks.
func systemHint(err error) string {
	var store *objstore.Error
	fromStore := errors.As(err, &store)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "check the owner and the permissions of that path"
	case errors.Is(err, fs.ErrNotExist) && !fromStore:
		return "check the path"
	case errors.Is(err, syscall.ENOSPC):
		return "free some disk space; it goes on from where it was"
	}
	return ""
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&fs.ModeCharDevice != 0
}

// bytesOf writes n bytes for people: 1.5 GiB.
func bytesOf(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exp := float64(n)/unit, 0
	for value >= unit && exp < 4 {
		value /= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[exp])
}

// plural returns "1 file" or "2 files".
func plural[T int | int64 | uint64](n T, noun string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printable quotes a name that would upset a terminal.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
