package ignore

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
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

	mu     sync.Mutex // guards what follows
	files  map[string]*ruleFile
	sky    map[string]bool // of roots, whether a .skyignore counts there until Settle
	warned map[string]bool

	asking  sync.Mutex // while git is asked; guards what follows
	repos   map[string]*repo
	version uint64
}

// New returns Rules that have read nothing yet.
func New(o Options) *Rules {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Rules{
		keepGit: o.KeepGit, log: o.Log,
		files: map[string]*ruleFile{}, sky: map[string]bool{}, warned: map[string]bool{}, repos: map[string]*repo{},
	}
}

// builtIn is the rule about .git.
var builtIn = &Rule{Pattern: gitDir}

// A list is the patterns of one file, which are about what is below a directory.
// It hides those that follow.
type list struct {
	dir  string
	file *ruleFile
	next *list
}

// find returns the last pattern that is about the entry, nil for none. What was
// ignored before the file changed is until that has settled.
func (l *list) find(dir, name string, isDir bool) *pattern {
	below := name
	if l.file.paths && dir != l.dir {
		below = dir[len(l.dir)+1:] + "/" + name
	}
	p := last(l.file.patterns, below, name, isDir)
	if p == nil || p.negated {
		if q := last(l.file.before, below, name, isDir); q != nil && !q.negated {
			return q
		}
	}
	return p
}

// last returns the last of patterns that matches, nil for none.
func last(patterns []pattern, below, name string, isDir bool) *pattern {
	for i := len(patterns) - 1; i >= 0; i-- {
		if p := &patterns[i]; p.match(below, name, isDir) {
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
	if file := r.skyFile(dir); file != nil {
		d.mode = sky
		d.push(file)
		return d
	}
	top, ok := WorkTree(dir)
	switch {
	case !ok && begun(dir):
		top = dir
	case !ok:
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

// push puts what a file says about d before what counts already. It may be nil.
func (d *Dir) push(file *ruleFile) {
	if file != nil && len(file.patterns)+len(file.before) > 0 {
		d.lists = &list{dir: d.path, file: file, next: d.lists}
	}
}

// Enter returns the Dir of the directory name in d.
func (d Dir) Enter(name string) Dir {
	if d.rules == nil {
		return Dir{}
	}
	sub := d
	sub.hidden = d.judge(name, true)
	sub.path = d.path + "/" + name
	switch {
	case sub.hidden != nil && d.repo.tracks(d.path, name) && isRepo(sub.path): // a submodule
		return d.rules.enterRepo(sub.path)
	case sub.hidden != nil:
	case name == gitDir: // nobody's rules are about what is in it
		return Dir{}
	case d.mode == sky:
		sub.push(d.rules.read(filepath.Join(sub.path, skyFile), asked))
	case isRepo(sub.path), d.mode == nobodys && begun(sub.path):
		return d.rules.enterRepo(sub.path)
	case d.mode == git:
		sub.push(d.rules.read(filepath.Join(sub.path, gitFile), gits))
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
