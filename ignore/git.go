package ignore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	gitPatience = 10 * time.Second // for one run of git
	gitPause    = time.Minute      // the longest between questions that git did not answer
)

// A repo is a work tree of git, as it was when it was asked about.
type repo struct {
	top      string
	common   string    // git's directory, of all work trees that share it
	index    stamp     // of the list of what git tracks
	excludes string    // path of core.excludesFile; "" for none
	tracked  []string  // below top, in the order of bytes
	failed   int       // how often in a row git did not answer: what it said before counts
	next     time.Time // when it is asked again then
}

// tracks reports whether git tracks the entry name of dir, or something in it. A
// nil repo tracks nothing.
func (p *repo) tracks(dir, name string) bool {
	if p == nil || len(p.tracked) == 0 {
		return false
	}
	path := (dir + "/" + name)[len(p.top)+1:]
	if _, ok := slices.BinarySearch(p.tracked, path); ok {
		return true
	}
	path += "/"
	i, _ := slices.BinarySearch(p.tracked, path)
	return i < len(p.tracked) && strings.HasPrefix(p.tracked[i], path)
}

// A stamp says whether a file may have changed since it was looked at.
type stamp struct {
	fi fs.FileInfo // nil: there is none
	at time.Time
}

// settled is how much older than a look a file must be for the look to be
// believed: within one tick of the file system's clock a file can change twice.
const settled = 2 * time.Second

func stampOf(name string) stamp {
	at := time.Now()
	fi, err := os.Stat(name)
	if err != nil {
		return stamp{at: at}
	}
	return stamp{fi, at}
}

// same reports whether nothing happened between s and now.
func (s stamp) same(now stamp) bool {
	if s.fi == nil || now.fi == nil {
		return s.fi == now.fi
	}
	age := s.at.Sub(s.fi.ModTime())
	return os.SameFile(s.fi, now.fi) && s.fi.Size() == now.fi.Size() &&
		s.fi.ModTime().Equal(now.fi.ModTime()) && (age > settled || age < 0)
}

// isRepo reports whether dir is the top of a work tree, as git does: .git is
// git's directory, or a file that names it. One that cannot be looked at is.
func isRepo(dir string) bool {
	dot := filepath.Join(dir, gitDir)
	fi, err := os.Stat(dot)
	switch {
	case err != nil:
		return !missing(err)
	case fi.IsDir():
		return isGits(dot)
	}
	return fi.Mode().IsRegular() && isGits(follow(dir, dot, "gitdir: "))
}

// isGits reports whether dir is a directory of git's.
func isGits(dir string) bool {
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return !missing(err)
	}
	return has("HEAD") && (has("objects") && has("refs") || has("commondir"))
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// begun reports whether git may be about to make a work tree of dir: no event
// tells when it is done.
func begun(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, gitDir))
	return err == nil
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
	if p.excludes != "" {
		d.push(r.read(p.excludes, spare))
	}
	d.push(r.read(filepath.Join(p.common, "info", "exclude"), spare))
	d.push(r.read(filepath.Join(top, gitFile), gits))
	return d
}

// repo returns what there is to know of the work tree at top. Git is asked only
// when its index has changed since.
func (r *Rules) repo(top string) *repo {
	r.asking.Lock() // one question at a time: who waits will find the answer
	defer r.asking.Unlock()
	return r.repoLocked(top)
}

func (r *Rules) repoLocked(top string) *repo {
	own, common := gitDirs(top)
	index, known := stampOf(filepath.Join(own, "index")), r.repos[top]
	if known != nil && known.common == common {
		if known.failed == 0 && known.index.same(index) || known.failed > 0 && index.at.Before(known.next) {
			return known
		}
	}
	p := &repo{top: top, common: common, index: index}
	if !r.ask(p) {
		p.failed = 1
		if known != nil {
			p.tracked, p.failed = known.tracked, known.failed+1
		}
		p.next = time.Now().Add(min(settled<<min(p.failed, 10), gitPause))
	}
	if known != nil && !slices.Equal(known.tracked, p.tracked) {
		r.version++
	}
	r.repos[top] = p
	return p
}

// Version returns a number that changes when git tracks other files than before
// in a work tree that was met: no event tells of that. It asks git where its
// index has changed.
func (r *Rules) Version() uint64 {
	if r == nil {
		return 0
	}
	r.asking.Lock()
	defer r.asking.Unlock()
	for top := range r.repos {
		if begun(top) {
			r.repoLocked(top)
		} else {
			delete(r.repos, top)
		}
	}
	return r.version
}

// ask has git fill in what it alone knows, and reports false when it does not.
func (r *Rules) ask(p *repo) bool {
	p.excludes = defaultExcludes()
	if !isRepo(p.top) {
		return true // not yet
	}
	out, err := runGit(p.top, "config", "--path", "--get", "core.excludesFile")
	if name := strings.TrimSuffix(string(out), "\n"); name != "" {
		p.excludes = name
		if !filepath.IsAbs(name) {
			p.excludes = filepath.Join(p.top, name)
		}
	}
	if !errors.Is(err, exec.ErrNotFound) {
		out, err = runGit(p.top, "ls-files", "-z", "--cached")
	}
	if err != nil {
		r.warn(p.top, "git cannot be asked: what it tracks is left out where its rules say so", "worktree", p.top, "err", err)
		return false
	}
	if list := strings.TrimSuffix(string(out), "\x00"); list != "" {
		p.tracked = slices.Compact(strings.Split(list, "\x00")) // a path in conflict comes thrice
		slices.Sort(p.tracked)
	}
	return true
}

// runGit returns what git says in the work tree at top, which may be anybody's:
// git reads, starts no program of the repository's choice, and fetches nothing.
func runGit(top string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gitPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", top, "-c", "core.fsmonitor=false", "-c", "safe.directory=*"}, args...)...)
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(elsewhere, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none", "LC_ALL=C")
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
var elsewhere = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
	"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}

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
