//go:build linux

package posix

import (
	"fmt"
	"os"
	"strings"
)

// runGit clones, commits, packs and checks repositories on the file system.
func runGit(s *stage) {
	s.env = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com", "GIT_TERMINAL_PROMPT=0"}
	origin := s.off("origin")
	makeTree(s, origin)
	s.commitAll(origin, "first")
	s.sub("clone", func(s *stage) {
		s.run(s.dir, "git", "clone", "-q", "file://"+origin, "clone")
		s.wantOutput("", s.path("clone"), "git", "status", "--porcelain")
		s.wantOutput("", s.dir, "diff", "-r", "-x", ".git", origin, "clone", "-x", "empty")
	})
	s.sub("change", func(s *stage) {
		clone := s.path("clone")
		s.write(clone+"/dir-1/new", "new")
		s.write(clone+"/dir-0/sub 0/file-0.txt", "changed")
		s.wantOutput("M \"dir-0/sub 0/file-0.txt\"\n?? dir-1/new", clone, "git", "status", "--porcelain")
		for i := range 20 {
			s.write(clone+"/log", strings.Repeat("line\n", i))
			s.run(clone, "git", "add", "-A")
			s.run(clone, "git", "commit", "-q", "-m", fmt.Sprint("commit ", i))
		}
		s.run(clone, "git", "checkout", "-q", "-b", "side", "HEAD~5")
		s.run(clone, "git", "merge", "-q", "-")
		s.wantOutput("", clone, "git", "status", "--porcelain")
	})
	s.sub("gc", func(s *stage) {
		s.run(s.path("clone"), "git", "gc", "-q", "--prune=now")
		s.run(s.path("clone"), "git", "fsck", "--strict", "--no-progress")
		s.wantOutput("21", s.path("clone"), "git", "rev-list", "--count", "HEAD")
		s.wantOutput("", s.path("clone"), "git", "status", "--porcelain")
	})
	s.sub("clone within", func(s *stage) { // by hard links, or by copies where there are none
		s.run(s.dir, "git", "clone", "-q", s.path("clone"), "second")
		s.run(s.path("second"), "git", "fsck", "--no-progress")
		s.run(s.path("clone"), "git", "push", "-q", "file://"+origin, "HEAD:refs/heads/pushed")
	})
	s.sub("init", func(s *stage) {
		makeTree(s, s.path("fresh"))
		s.commitAll(s.path("fresh"), "first")
		s.run(s.path("fresh"), "git", "stash", "list")
		s.wantOutput("", s.path("fresh"), "git", "status", "--porcelain")
	})
}

func (s *stage) commitAll(dir, message string) {
	s.Helper()
	s.run(dir, "git", "init", "-q", "-b", "main")
	s.run(dir, "git", "add", "-A")
	s.run(dir, "git", "commit", "-q", "-m", message)
}

// runGo builds, tests and runs a small module that lies on the file system.
func runGo(s *stage) {
	s.env = []string{"GOWORK=off", "GO111MODULE=on"}
	s.write(s.path("m/go.mod"), "module example.com/m\n\ngo 1.24\n")
	s.write(s.path("m/main.go"), "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.com/m/sub\"\n)\n\nfunc main() { fmt.Println(sub.Word()) }\n")
	s.write(s.path("m/sub/sub.go"), "package sub\n\nfunc Word() string { return \"one\" }\n")
	s.write(s.path("m/sub/sub_test.go"), "package sub\n\nimport \"testing\"\n\nfunc TestWord(t *testing.T) {\n\tif Word() == \"\" {\n\t\tt.Fatal()\n\t}\n}\n")
	m := s.path("m")
	s.run(m, "go", "vet", "./...")
	s.run(m, "go", "test", "./...")
	s.run(m, "go", "build", "-o", "bin/m", ".")
	s.wantOutput("one", m, "bin/m")
	s.write(s.path("m/sub/sub.go"), "package sub\n\nfunc Word() string { return \"two\" }\n")
	s.run(m, "go", "build", "-o", "bin/m", ".")
	s.wantOutput("two", m, "bin/m")
}

// runVim saves in the ways that vim has.
func runVim(s *stage) {
	for _, tc := range []struct{ name, set string }{
		{"by rename", "set backupcopy=no writebackup nobackup"},
		{"by copy", "set backupcopy=yes writebackup nobackup"},
		{"in place", "set nowritebackup nobackup"},
		{"automatic", "set backupcopy=auto writebackup nobackup"},
		{"with undo file", "set undofile undodir=. writebackup"},
	} {
		s.sub(tc.name, func(s *stage) {
			path := s.path("text " + tc.name)
			s.write(path, strings.Repeat("an old line\n", 500))
			if err := os.Chmod(path, 0o640); err != nil {
				s.Fatal(err)
			}
			for _, change := range []string{"%s/old/new/", "%s/new/newer/", "%s/newer/newest/"} {
				s.run(s.dir, "vim", "-es", "-u", "NONE", "-i", "NONE", "-N", "-c", "set directory=. swapfile fsync "+strings.TrimPrefix(tc.set, "set "), "-c", "edit "+strings.ReplaceAll(path, " ", `\ `), "-c", change, "-c", "wq")
			}
			s.wantFile(path, strings.Repeat("an newest line\n", 500))
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
				s.Errorf("mode after the saves: %v, %v", fi.Mode(), err)
			}
		})
	}
	s.wantOutput("", s.dir, "find", ".", "(", "-name", "*.sw?", "-o", "-name", "*~", "-o", "-name", "4913", ")", "!", "-name", "*.un~")
}

// runEditors saves as editors do that are not installed, and by sed -i.
func runEditors(s *stage) {
	path, tmp, old := s.path("f"), s.path("f.tmp"), s.path("f~")
	for name, save := range map[string]func(s *stage, content string){
		"new file over the old": func(s *stage, content string) { s.writeSync(tmp, content); s.rename(tmp, path) },
		"old one aside":         func(s *stage, content string) { s.rename(path, old); s.writeSync(path, content); s.remove(old) },
		"two renames": func(s *stage, content string) {
			s.writeSync(tmp, content)
			s.rename(path, old)
			s.rename(tmp, path)
			s.remove(old)
		},
		"removed and written": func(s *stage, content string) { s.remove(path); s.writeSync(path, content) },
		"in place":            func(s *stage, content string) { s.writeSync(path, content) },
	} {
		s.sub(name, func(s *stage) {
			s.write(path, "first")
			for i := range 30 {
				content := noise(i * 700)
				save(s, content)
				s.wantFile(path, content)
			}
		})
	}
	s.write(path, strings.Repeat("old\n", 1000))
	s.run(s.dir, "sed", "-i", "s/old/new/", "f")
	s.wantFile(path, strings.Repeat("new\n", 1000))
	s.wantOutput("./f", s.dir, "find", ".", "-type", "f")
}

func (s *stage) rename(from, to string) {
	s.Helper()
	if err := os.Rename(from, to); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) remove(path string) {
	s.Helper()
	if err := os.Remove(path); err != nil {
		s.Fatal(err)
	}
}

// writeSync writes a file as careful editors do.
func (s *stage) writeSync(path, content string) {
	s.Helper()
	f, err := os.Create(path)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	if err := writeAll(f, content); err != nil {
		s.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		s.Fatal(err)
	}
}
