package ignore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// gitPatience bounds one run of git.
const gitPatience = time.Minute

// A repo is a work tree of git, as it was when it was asked about.
type repo struct {
	top      string
	common   string              // git's directory, of all work trees that share it
	index    stamp               // of the list of what git tracks
	excludes string              // path of core.excludesFile; "" for none
	tracked  map[string]struct{} // below top: what git tracks though it is ignored, and the directories above
}

// tracks reports whether git tracks the entry name of dir, or something in it,
// whatever the rules say. A nil repo tracks nothing.
func (p *repo) tracks(dir, name string) bool {
	if p == nil || len(p.tracked) == 0 {
		return false
	}
	_, ok := p.tracked[(dir + "/" + name)[len(p.top)+1:]]
	return ok
}

// isRepo reports whether dir is the top of a work tree: .git is git's directory,
// or a file that names it. One that git has only begun to make counts: no event
// tells when it is done.
func isRepo(dir string) bool {
	fi, err := os.Stat(filepath.Join(dir, gitDir))
	return err == nil && (fi.IsDir() || fi.Mode().IsRegular())
}

// WorkTree returns the top, with slashes, of the work tree that dir is in.
func WorkTree(dir string) (string, bool) {
	for {
		if isRepo(dir) {
			return filepath.ToSlash(dir), true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

// elements returns the names that a relative path is made of.
func elements(path string) []string {
	if path == "." || path == "" {
		return nil
	}
	return strings.Split(filepath.ToSlash(path), "/")
}

// enterRepo returns the Dir of the top of a work tree. What is above it has no
// say in it.
func (r *Rules) enterRepo(top string) Dir {
	p := r.repo(top)
	d := Dir{rules: r, path: top, mode: git, repo: p}
	var patterns []pattern
	if p.excludes != "" {
		patterns, _ = r.read(p.excludes, os.Stat)
		d.push(patterns)
	}
	patterns, _ = r.read(filepath.Join(p.common, "info", "exclude"), os.Stat)
	d.push(patterns)
	patterns, _ = r.read(filepath.Join(top, gitFile), os.Lstat)
	d.push(patterns)
	return d
}

// repo returns what there is to know of the work tree at top. Git is asked only
// when its index has changed since.
func (r *Rules) repo(top string) *repo {
	r.git.Lock() // one question at a time: who waits will find the answer
	defer r.git.Unlock()
	own, common := gitDirs(top)
	var index stamp
	if fi, err := os.Stat(filepath.Join(own, "index")); err == nil {
		index = stamp{fi}
	}
	if known := r.repos[top]; known != nil && known.common == common && known.index.same(index) {
		return known
	}
	p := &repo{top: top, common: common, index: index}
	r.ask(p)
	r.repos[top] = p
	return p
}

// ask has git fill in what it alone knows.
func (r *Rules) ask(p *repo) {
	out, err := runGit(p.top, "config", "--path", "--get", "core.excludesFile")
	if p.excludes = strings.TrimSuffix(string(out), "\n"); p.excludes == "" {
		p.excludes = defaultExcludes()
	} else if !filepath.IsAbs(p.excludes) {
		p.excludes = filepath.Join(p.top, p.excludes)
	}
	if !errors.Is(err, exec.ErrNotFound) {
		out, err = runGit(p.top, "ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
	}
	if err != nil {
		r.warn(p.top, "git cannot be asked: what it tracks is ignored, too, where its rules say so", "worktree", p.top, "err", err)
		return
	}
	p.tracked = map[string]struct{}{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		for ; name != "." && name != ""; name = path.Dir(name) {
			p.tracked[name] = struct{}{}
		}
	}
}

// runGit returns what git says in the work tree at top. Nothing but the
// arguments and git's own configuration decides what it does, and it starts no
// helper of the repository's choice.
func runGit(top string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gitPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", top, "-c", "core.fsmonitor=false"}, args...)...)
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(elsewhere, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if line, _, _ := strings.Cut(said.String(), "\n"); err != nil && line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	return out, err
}

// elsewhere are the variables by which git looks at another repository, as when
// it was git that started this program.
var elsewhere = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"}

// defaultExcludes is where git looks for core.excludesFile when nothing is
// configured.
func defaultExcludes() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "git", "ignore")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".config", "git", "ignore")
}

// gitDirs returns git's directory for the work tree at top, and the one of the
// whole repository: they differ for a work tree that was added to another.
func gitDirs(top string) (own, common string) {
	own = follow(top, filepath.Join(top, gitDir), "gitdir: ")
	return own, follow(own, filepath.Join(own, "commondir"), "")
}

// follow returns the directory that a file names after a prefix, relative to
// dir. Where there is no such file it is the path itself if that is a directory,
// else dir.
func follow(dir, name, prefix string) string {
	content, err := os.ReadFile(name)
	if err != nil {
		if fi, err := os.Stat(name); err == nil && fi.IsDir() {
			return name
		}
		return dir
	}
	to := strings.TrimSpace(strings.TrimPrefix(string(content), prefix))
	if !filepath.IsAbs(to) {
		to = filepath.Join(dir, to)
	}
	return to
}
