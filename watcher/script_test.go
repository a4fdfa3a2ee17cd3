//go:build unix

package watcher_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// TestScripts runs testdata/*.txt against the real backend. A line is a command
// (see play), a "> PATH…" that must come in batches handed out after the
// previous such line, or a "! PATH…" that must not have come since then. A line
// "watch" starts the watcher; what stands before it prepares the source.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			must(t, err)
			s := &script{T: t, root: t.TempDir(), open: map[string]*os.File{}, seen: map[manifest.Path]bool{}}
			for i, line := range strings.Split(string(text), "\n") {
				s.line = fmt.Sprintf("%s:%d: %s", f, i+1, line)
				if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
					s.do(strings.Fields(line))
				}
			}
		})
	}
}

type script struct {
	*testing.T
	root    string
	line    string
	w       *watcher.Watcher
	open    map[string]*os.File
	seen    map[manifest.Path]bool // since the last expectation
	barrier int
}

func (s *script) do(words []string) {
	s.Helper()
	switch cmd, args := words[0], words[1:]; cmd {
	case "watch":
		s.w = start(s.T, watcher.Options{Root: s.root})
	case ">":
		s.expect(args)
		clear(s.seen)
	case "!":
		s.settle()
		for _, p := range args {
			if s.seen[manifest.Path(p)] {
				s.Fatalf("%s: %s came", s.line, p)
			}
		}
	default:
		if err := s.play(cmd, args); err != nil {
			s.Fatalf("%s: %v", s.line, err)
		}
	}
}

// expect takes batches until all paths have come.
func (s *script) expect(paths []string) {
	s.Helper()
	for _, p := range paths {
		for !s.seen[manifest.Path(p)] {
			s.take()
		}
	}
}

func (s *script) take() {
	s.Helper()
	s.Log(s.line)
	b := next(s.T, s.w)
	for _, p := range b.Paths {
		s.seen[p] = true
	}
	if b.Rescan != "" {
		s.seen[manifest.Path("@"+b.Rescan)] = true
	}
}

// settle waits until everything before has been handed out, if it will be.
func (s *script) settle() {
	s.Helper()
	s.barrier++
	p := fmt.Sprint("barrier", s.barrier)
	write(s.T, s.root, p)
	s.expect([]string{p})
}

// play performs one command in the source.
func (s *script) play(cmd string, args []string) error {
	paths := make([]string, len(args))
	for i, a := range args {
		paths[i] = filepath.Join(s.root, strings.ReplaceAll(a, `\xff`, "\xff"))
	}
	switch cmd {
	case "mkdir":
		return os.MkdirAll(paths[0], 0o755)
	case "write":
		return os.WriteFile(paths[0], []byte(time.Now().String()), 0o644)
	case "mv":
		return os.Rename(paths[0], paths[1])
	case "rm":
		return os.RemoveAll(paths[0])
	case "symlink":
		return os.Symlink(args[0], paths[1])
	case "link":
		return os.Link(paths[0], paths[1])
	case "chmod":
		return os.Chmod(paths[1], map[string]os.FileMode{"x": 0o755, "r": 0o600}[args[0]])
	case "touch":
		return os.Chtimes(paths[0], time.Time{}, time.Now())
	case "fifo":
		return syscall.Mkfifo(paths[0], 0o644)
	case "hold":
		f, err := os.OpenFile(paths[0], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		s.open[args[0]] = f
		return err
	case "append":
		_, err := s.open[args[0]].Write(bytes.Repeat([]byte("x"), 4096))
		return err
	case "release":
		return s.open[args[0]].Close()
	}
	return fmt.Errorf("unknown command %q", cmd)
}
