//go:build linux

package posix

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs runs what people run in a subdirectory of dir, each in a subtest,
// and looks at what they say and leave. scratch is a directory of a local file
// system. A program that is missing fails its test.
//
// SQLite's WAL needs memory that processes share through the file system: its
// test passes where mmap's MAP_SHARED is one memory for all processes of the
// machine, as on every mount whose pages the kernel caches. It never works
// between machines.
func Programs(t *testing.T, dir, scratch string) {
	t.Helper()
	for _, tc := range []struct {
		name  string
		tools string // Debian's packages, by the same names as their programs
		run   func(p *stage)
	}{
		{"git", "git", runGit},
		{"tar", "tar", runTar},
		{"go", "", runGo},
		{"sqlite", "sqlite3", runSQLite},
		{"rsync", "rsync", runRsync},
		{"vim", "vim", runVim},
		{"editors", "sed", runEditors},
		{"fio", "fio", runFio},
		{"coreutils", "cp mv rm find du diff", runCoreutils},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, tool := range strings.Fields(tc.tools) {
				if _, err := exec.LookPath(tool); err != nil {
					t.Fatalf("no %s here: %v\nhint: apt-get install %s", tool, err, tool)
				}
			}
			tc.run(newStage(t, dir, scratch))
		})
	}
}

// A stage is where a program plays.
type stage struct {
	*testing.T
	dir     string // on the file system that is tested
	scratch string // elsewhere
	env     []string
}

func newStage(t *testing.T, dir, scratch string) *stage {
	t.Helper()
	s := &stage{T: t}
	for of, to := range map[string]*string{dir: &s.dir, scratch: &s.scratch} {
		own, err := os.MkdirTemp(of, "program-")
		if err != nil {
			t.Fatal(err)
		}
		*to = own
		t.Cleanup(func() {
			if err := os.RemoveAll(own); err != nil && !t.Failed() {
				t.Errorf("remove what is left: %v", err)
			}
		})
	}
	return s
}

// sub is the stage of a subtest, in the same directories.
func (s *stage) sub(name string, run func(s *stage)) {
	s.Run(name, func(t *testing.T) { run(&stage{t, s.dir, s.scratch, s.env}) })
}

// run runs a program in dir to its good end and returns what it printed.
func (s *stage) run(dir, program string, args ...string) string {
	s.Helper()
	out, err := s.try(dir, program, args...)
	if err != nil {
		s.Fatalf("%s %s in %s: %v\n%s", program, strings.Join(args, " "), dir, err, out)
	}
	return out
}

func (s *stage) try(dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), s.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// path returns a path on the tested file system.
func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// off returns a path elsewhere.
func (s *stage) off(name string) string { return filepath.Join(s.scratch, name) }

func (s *stage) write(path, content string) {
	s.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.Fatal(err)
	}
}

// wantFile wants a file to hold content.
func (s *stage) wantFile(path, content string) {
	s.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, []byte(content)) {
		s.Errorf("%s holds %q, %v, want %q", path, short(string(got)), err, short(content))
	}
}

// wantOutput wants a program to print want and nothing else.
func (s *stage) wantOutput(want, dir, program string, args ...string) {
	s.Helper()
	if got := strings.TrimSpace(s.run(dir, program, args...)); got != want {
		s.Errorf("%s %s says %q, want %q", program, strings.Join(args, " "), short(got), short(want))
	}
}
