package ignore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A ruleFile is a file with rules as it was read. It never changes.
type ruleFile struct {
	care     care
	content  []byte
	patterns []pattern
	// before are those that counted when rules last settled. What they ignore is
	// ignored until rules settle again: a file that is being written, or replaced,
	// says too little for a moment.
	before []pattern
	paths  bool // some patterns are about more than the last element of a path
}

func newRuleFile(care care, content []byte, patterns, before []pattern) *ruleFile {
	long := func(p pattern) bool { return !p.base }
	return &ruleFile{care, content, patterns, before, slices.ContainsFunc(patterns, long) || slices.ContainsFunc(before, long)}
}

// A care says what becomes of a directory whose rules cannot be read.
type care uint8

const (
	asked care = iota // .skyignore: all in the directory is left out
	gits              // .gitignore: the same, but one that is no file is none, as git has it
	spare             // others: they do not count
)

// read returns a rule file, nil where there is none.
func (r *Rules) read(name string, care care) *ruleFile {
	content, err := content(name, care)
	r.mu.Lock()
	known := r.files[name]
	r.mu.Unlock()
	switch {
	case missing(err):
		return known // it may be back in a moment
	case err != nil && known != nil:
		r.warn(name, "rules cannot be read, those that were read before count", "file", name, "err", err)
		return known
	case err != nil && care == spare, errors.Is(err, errNoFile) && care == gits:
		r.warn(name, "rules cannot be read, they do not count", "file", name, "err", err)
		return nil
	case err != nil:
		r.warn(name, "rules cannot be read, nothing in their directory is synced: mend them, or use --no-ignore", "file", name, "err", err)
		all, _ := parseLine("*")
		all.rule = Rule{File: name, Line: 1, Pattern: "(it cannot be read)"}
		return newRuleFile(care, nil, []pattern{all}, nil)
	case known != nil && bytes.Equal(known.content, content):
		return known
	}
	var before []pattern
	if known != nil {
		if before = known.before; before == nil {
			before = known.patterns
		}
	}
	f := newRuleFile(care, content, parse(name, content), before)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = f
	delete(r.warned, name)
	return f
}

var errNoFile = errors.New("it is not a regular file")

func content(name string, care care) ([]byte, error) {
	look := os.Stat
	if care == gits {
		look = os.Lstat
	}
	fi, err := look(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errNoFile
	}
	return os.ReadFile(name)
}

// skyFile returns the .skyignore of a root, nil where none counts.
func (r *Rules) skyFile(root string) *ruleFile {
	f := r.read(filepath.Join(root, skyFile), asked)
	r.mu.Lock()
	defer r.mu.Unlock()
	counts, known := r.sky[root]
	if !known {
		counts = f != nil
		r.sky[root] = counts
	}
	if !counts {
		return nil
	}
	return f
}

// Settle says that all rule files are as they are to be, but for those that are
// younger than young: what only those before them ignored is not ignored from now on.
func (r *Rules) Settle(young time.Duration) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if young == 0 {
		clear(r.sky)
	}
	for name, f := range r.files {
		if fi, err := os.Stat(name); young > 0 && (err != nil || time.Since(fi.ModTime()) < young) {
			continue
		}
		content, err := content(name, f.care)
		switch {
		case missing(err):
			delete(r.files, name)
		case err != nil: // what was read before counts
		case f.before != nil || !bytes.Equal(content, f.content):
			r.files[name] = newRuleFile(f.care, content, parse(name, content), nil)
		}
	}
}
