package ignore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// The names of files with rules.
const (
	skyFile = ".skyignore"
	gitFile = ".gitignore"
	gitDir  = ".git"
)

// Decides reports whether the coming, going or change of an entry of that name
// may change what is ignored below its directory.
func Decides(name string) bool { return name == skyFile || name == gitFile || name == gitDir }

// A Rule is a line that makes an entry ignored.
type Rule struct {
	File    string // where it stands; "" for the one that is built in
	Line    int
	Pattern string
}

// String names the rule in one line.
func (r *Rule) String() string {
	if r.File == "" {
		return fmt.Sprintf("the built-in rule %q", r.Pattern)
	}
	return fmt.Sprintf("%s:%d: %s", r.File, r.Line, r.Pattern)
}

// Options say how Rules judge.
type Options struct {
	KeepGit bool         // .git is kept: only a .skyignore may ignore it
	Log     *slog.Logger // nil discards
}

// Rules judge what is in any number of sources. The methods of Rules, and of
// what they return, may be called at the same time. A nil Rules ignores nothing.
type Rules struct {
	keepGit bool
	log     *slog.Logger

	mu     sync.Mutex
	files  map[string]file
	warned map[string]bool

	git   sync.Mutex // while git is asked
	repos map[string]*repo
}

// New returns Rules that have read nothing yet.
func New(o Options) *Rules {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Rules{
		keepGit: o.KeepGit, log: o.Log,
		files: map[string]file{}, warned: map[string]bool{}, repos: map[string]*repo{},
	}
}

// builtIn is the rule about .git.
var builtIn = &Rule{Pattern: gitDir}

// A list is the patterns of one file, which are about what is below a directory.
// It hides those that follow.
type list struct {
	dir      string
	patterns []pattern
	paths    bool // some are about more than the last element of a path
	next     *list
}

// find returns the last pattern that is about the entry, nil for none.
func (l *list) find(dir, name string, isDir bool) *pattern {
	below := name
	if l.paths && dir != l.dir {
		below = dir[len(l.dir)+1:] + "/" + name
	}
	for i := len(l.patterns) - 1; i >= 0; i-- {
		if p := &l.patterns[i]; p.match(below, name, isDir) {
			return p
		}
	}
	return nil
}

// A mode says whose rules count in a directory.
type mode uint8

const (
	nobodys mode = iota // until a work tree is met
	sky
	git
)

// A Dir judges the entries of one directory. The zero Dir ignores nothing.
type Dir struct {
	rules  *Rules
	path   string // on disk, with slashes
	mode   mode
	lists  *list // the innermost first
	repo   *repo // nil outside of one
	hidden *Rule // what the directory itself is ignored by
}

// Root returns the Dir of a source's root, an absolute path.
func (r *Rules) Root(dir string) Dir {
	if r == nil {
		return Dir{}
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // what is above it counts
	}
	dir = filepath.ToSlash(dir)
	d := Dir{rules: r, path: dir}
	if patterns, ok := r.read(filepath.Join(dir, skyFile), os.Stat); ok {
		d.mode = sky
		d.push(patterns)
		return d
	}
	top, ok := WorkTree(dir)
	if !ok {
		return d
	}
	in := r.enterRepo(top)
	rest, _ := filepath.Rel(top, dir)
	for _, name := range elements(rest) {
		in = in.Enter(name)
	}
	if in.hidden != nil {
		r.warn(dir, "git ignores the source as a whole, its rules are not applied to it", "source", dir, "rule", in.hidden.String())
		return d
	}
	return in
}

// push puts patterns of a file in d before those that count already.
func (d *Dir) push(patterns []pattern) {
	if len(patterns) > 0 {
		paths := slices.ContainsFunc(patterns, func(p pattern) bool { return !p.base })
		d.lists = &list{dir: d.path, patterns: patterns, paths: paths, next: d.lists}
	}
}

// Enter returns the Dir of the directory name in d.
func (d Dir) Enter(name string) Dir {
	if d.rules == nil || d.rules.keepGit && name == gitDir {
		return Dir{}
	}
	sub := d
	sub.hidden = d.judge(name, true)
	sub.path = d.path + "/" + name
	if sub.hidden != nil {
		return sub
	}
	if d.mode != sky && isRepo(sub.path) {
		return d.rules.enterRepo(sub.path)
	}
	switch d.mode {
	case sky:
		patterns, _ := d.rules.read(filepath.Join(sub.path, skyFile), os.Stat)
		sub.push(patterns)
	case git:
		patterns, _ := d.rules.read(filepath.Join(sub.path, gitFile), os.Lstat)
		sub.push(patterns)
	}
	return sub
}

// Match returns the rule by which the entry name of d is ignored, nil when it is
// not. What is in an ignored directory is ignored, too.
func (d Dir) Match(name string, isDir bool) *Rule {
	rule := d.judge(name, isDir)
	if rule == nil || d.repo.tracks(d.path, name) {
		return nil
	}
	return rule
}

// judge is Match by rules alone.
func (d Dir) judge(name string, isDir bool) *Rule {
	if d.hidden != nil {
		return d.hidden
	}
	if d.rules != nil && name == gitDir {
		switch {
		case !d.rules.keepGit:
			return builtIn // "!*" does not mean it
		case d.mode != sky:
			return nil // "*" does not mean it, git says
		}
	}
	if d.lists == nil {
		return nil
	}
	for l := d.lists; l != nil; l = l.next {
		if p := l.find(d.path, name, isDir); p != nil && p.negated {
			return nil
		} else if p != nil {
			return &p.rule
		}
	}
	return nil
}

// A file is a rule file as it was read.
type file struct {
	stamp    stamp
	patterns []pattern
}

// A stamp says whether a file may have changed.
type stamp struct {
	fi fs.FileInfo // nil: there is none
}

// settled is how old a stamp must be to be believed: within one tick of the file
// system's clock a file can change twice.
const settled = 2 * time.Second

// same reports whether nothing happened between s and now.
func (s stamp) same(now stamp) bool {
	if s.fi == nil || now.fi == nil {
		return s.fi == now.fi
	}
	return os.SameFile(s.fi, now.fi) && s.fi.Size() == now.fi.Size() &&
		s.fi.ModTime().Equal(now.fi.ModTime()) && time.Since(now.fi.ModTime()) > settled
}

// read returns the patterns of a rule file, and whether there is one.
func (r *Rules) read(name string, look func(string) (fs.FileInfo, error)) ([]pattern, bool) {
	fi, err := look(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, false
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		r.warn(name, "rules cannot be read, they do not count", "file", name, "err", err)
		return nil, false
	}
	now := stamp{fi}
	r.mu.Lock()
	known, ok := r.files[name]
	r.mu.Unlock()
	if ok && known.stamp.same(now) {
		return known.patterns, true
	}
	content, err := os.ReadFile(name)
	if err != nil {
		r.warn(name, "rules cannot be read, they do not count", "file", name, "err", err)
		return nil, false
	}
	known = file{now, parse(name, content)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = known
	delete(r.warned, name)
	return known.patterns, true
}

// warn says something about an object once.
func (r *Rules) warn(object, msg string, args ...any) {
	r.mu.Lock()
	known := r.warned[object]
	r.warned[object] = true
	r.mu.Unlock()
	if !known {
		r.log.Warn(msg, args...)
	}
}
