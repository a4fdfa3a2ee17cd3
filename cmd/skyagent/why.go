package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

func (p *program) whyCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "why PATH...",
		Short: "Say which rule ignores a path, or why it is skipped",
		Long: `Say of each path whether it is synced, and if not, why: the rule that ignores it
or a directory above it, or what it is. Nothing but the paths, the rules and git
is asked: the bucket may still lack what is said to be synced.
Which rules count depends on the source that a path is in. It is the one that
--root names, or that a running watch of this machine keeps in step, or that
one or a sync did earlier. Where none is known, the nearest directory above that
has a .skyignore or is the top of a git work tree, or the path's own directory is
taken for one, and named.
The exit code is 3 when any of the paths is not synced.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.why(args, root) },
	}
	cmd.Flags().StringVar(&root, "root", "", "`DIR` that is, or would be, synced")
	if err := cmd.MarkFlagDirname("root"); err != nil {
		panic(err) // it was registered in the line above
	}
	return cmd
}

// A whyLine is what why --json prints for every path.
type whyLine struct {
	Path     string    `json:"path"`   // as it was given
	Source   string    `json:"source"` // its root
	SourceBy sourceBy  `json:"source_by"`
	Verdict  string    `json:"verdict"`
	At       string    `json:"at,omitempty"` // the directory above that the verdict is about
	Rule     *ruleLine `json:"rule,omitempty"`
}

// A ruleLine is a line of a rule file; a rule that is built in is in none.
type ruleLine struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Pattern string `json:"pattern"`
}

// why tells what happens to each path.
func (p *program) why(paths []string, root string) error {
	find := &sourceFinder{flag: root, running: innermostFirst(p.runningRoots()), noted: innermostFirst(p.notedRoots())}
	rules := map[bool]*ignore.Rules{}
	for _, plain := range []bool{false, true} {
		rules[plain] = ignore.New(ignore.Options{KeepGit: plain, Log: p.logger()})
	}
	var assumed []string
	for _, path := range paths {
		src, below, err := find.sourceOf(path)
		if err != nil {
			return err
		}
		v := src.judge(below, rules[src.Plain])
		p.sayWhy(path, src, v)
		if v.what != verdictSynced {
			p.partly.Store(true)
		}
		if line := src.words(); line != "" && !slices.Contains(assumed, line) {
			assumed = append(assumed, line)
		}
	}
	p.ui.print(strings.Join(assumed, "\n"))
	return nil
}

func (p *program) sayWhy(path string, src pathSource, v verdict) {
	p.ui.say("%s: %s", printable(path), v.words())
	line := whyLine{Path: path, Source: src.Path, SourceBy: src.by, Verdict: v.what}
	if v.above {
		line.At = v.at
	}
	if v.rule != nil {
		line.Rule = &ruleLine{v.rule.File, v.rule.Line, v.rule.Pattern}
	}
	p.ui.record(line)
}

// A sourceBy says how the source of a path was found.
type sourceBy string

const (
	byFlag      sourceBy = "flag"
	byWatch     sourceBy = "watch"
	byEarlier   sourceBy = "earlier"   // a watch or sync that has ended
	byGit       sourceBy = "git"       // the top of the work tree
	bySkyignore sourceBy = "skyignore" // the nearest directory with one
	byDirectory sourceBy = "directory" // the path's own
)

// A pathSource is the source that a path is judged in.
type pathSource struct {
	rootRecord
	by sourceBy
}

// words says which source was taken, where nobody named it.
func (s pathSource) words() string {
	const other = "; --root DIR names another"
	switch s.by {
	case byWatch:
		return fmt.Sprintf("source %s, which a watch keeps in step%s", printable(s.Path), other)
	case byEarlier:
		return fmt.Sprintf("source %s, which was kept in step earlier%s", printable(s.Path), other)
	case byGit:
		return fmt.Sprintf("source %s, assumed: it is the top of a git work tree%s", printable(s.Path), other)
	case bySkyignore:
		return fmt.Sprintf("source %s, assumed: it has a .skyignore%s", printable(s.Path), other)
	case byDirectory:
		return fmt.Sprintf("source %s, assumed: nothing tells of another%s", printable(s.Path), other)
	}
	return ""
}

// A sourceFinder knows which sources there are.
type sourceFinder struct {
	flag    string
	running []rootRecord // innermost first
	noted   []rootRecord
}

// innermostFirst sorts roots; of one directory, what goes into a bucket is first.
func innermostFirst(roots []rootRecord) []rootRecord {
	slices.SortStableFunc(roots, func(a, b rootRecord) int {
		switch {
		case a.Path != b.Path || a.Plain == b.Plain:
			return len(b.Path) - len(a.Path)
		case a.Plain:
			return 1
		}
		return -1
	})
	return roots
}

// sourceOf returns the source that a path is in, and where it is below its root.
func (f *sourceFinder) sourceOf(path string) (src pathSource, below string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return src, "", fmt.Errorf("find %s: %w", path, err)
	}
	real := filepath.Join(resolved(filepath.Dir(abs)), filepath.Base(abs)) // which may be a link itself
	if f.flag != "" {
		return f.named(path, abs, real)
	}
	for _, known := range []struct {
		roots []rootRecord
		by    sourceBy
	}{{f.running, byWatch}, {f.noted, byEarlier}} {
		for _, p := range []string{abs, real} {
			if root, below, ok := rootOf(known.roots, p); ok {
				return pathSource{root, known.by}, below, nil
			}
		}
	}
	for _, p := range []string{abs, real} {
		top, inTree := ignore.WorkTree(filepath.Dir(p))
		sky, hasRules := withSkyignore(filepath.Dir(p))
		switch {
		case hasRules && len(sky) >= len(top):
			return assume(sky, bySkyignore, p)
		case inTree:
			return assume(filepath.FromSlash(top), byGit, p)
		}
	}
	return assume(filepath.Dir(abs), byDirectory, abs)
}

// rootOf returns the first of roots that path is in.
func rootOf(roots []rootRecord, path string) (root rootRecord, below string, ok bool) {
	for _, r := range roots {
		if below, ok := belowDir(r.Path, path); ok && (below == "." || !r.File) {
			return r, below, true
		}
	}
	return root, "", false
}

func assume(dir string, by sourceBy, path string) (pathSource, string, error) {
	below, _ := belowDir(dir, path)
	return pathSource{rootRecord{Path: dir}, by}, below, nil
}

// named returns the source that the flag names.
func (f *sourceFinder) named(path, abs, real string) (src pathSource, below string, err error) {
	dir, err := filepath.Abs(f.flag)
	if err != nil {
		return src, "", fmt.Errorf("source %s: %w", f.flag, err)
	}
	if fi, err := os.Stat(dir); err != nil {
		return src, "", fmt.Errorf("source %s: %w", f.flag, bare(err))
	} else if !fi.IsDir() {
		return src, "", usageHint(fmt.Errorf("source %s is not a directory", f.flag), "name the directory that is synced")
	}
	src = pathSource{rootRecord{Path: dir}, byFlag}
	if below, ok := belowDir(dir, abs); ok {
		return src, below, nil
	}
	if below, ok := belowDir(resolved(dir), real); ok {
		return src, below, nil
	}
	return src, "", usageHint(fmt.Errorf("%s is not in the source %s", path, f.flag), "name the directory that is synced with --root, or leave it out")
}

// belowDir returns where path is below dir, if it is.
func belowDir(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// withSkyignore returns the nearest of dir and those above that has a .skyignore.
func withSkyignore(dir string) (string, bool) {
	for {
		if _, err := os.Stat(filepath.Join(dir, ".skyignore")); err == nil {
			return dir, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

// What a verdict may be, besides a manifest.Skip.
const (
	verdictSynced  = "synced"
	verdictIgnored = "ignored"
	verdictAbsent  = "absent"
)

// A verdict says what happens to a path of a source.
type verdict struct {
	what  string
	at    string       // the entry that decides
	above bool         // which is a directory above the path
	rule  *ignore.Rule // when it is ignored
	err   error        // when it cannot be read
}

// judge says what happens to what is below the source's root. The topmost of the
// entries on the way that is not synced decides.
func (s pathSource) judge(below string, rules *ignore.Rules) verdict {
	root := s.Path
	if s.File {
		root, below = filepath.Split(s.Path)
	}
	if below == "." {
		return verdict{what: verdictSynced}
	}
	tree := manifest.OneDir(root)
	if !s.All && !s.File {
		tree = tree.Ignoring(rules)
	}
	judge, dir := tree.Judge(), manifest.Path("")
	names := strings.Split(filepath.ToSlash(below), "/")
	for i, name := range names {
		dir = dir.Join(name)
		v := s.judgeEntry(judge, filepath.Join(root, filepath.FromSlash(string(dir))), dir, i == len(names)-1)
		if v.what != verdictSynced {
			return v
		}
	}
	return verdict{what: verdictSynced}
}

// judgeEntry is judge for an entry whose directory is synced.
func (s pathSource) judgeEntry(judge *manifest.Judge, at string, p manifest.Path, last bool) verdict {
	v := verdict{what: verdictSynced, at: at, above: !last}
	fi, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return verdict{what: verdictAbsent}
	case err != nil:
		v.what, v.err = string(manifest.SkipUnreadable), err
		return v
	}
	if v.rule = judge.Ignores(p, fi.IsDir()); v.rule != nil {
		v.what = verdictIgnored
	} else if why := s.skips(p, fi.Mode(), last); why != "" {
		v.what = string(why)
	} else if v.err = readable(at, fi.Mode()); v.err != nil {
		v.what = string(manifest.SkipUnreadable)
	}
	return v
}

// skips returns why an entry is not synced whatever the rules say, "" when it is.
func (s pathSource) skips(p manifest.Path, mode fs.FileMode, last bool) manifest.Skip {
	_, why := manifest.Classify(p.Dir(), p.Base(), mode)
	link := mode&fs.ModeSymlink != 0
	switch {
	case s.Plain && link && !last:
		return manifest.SkipSymlink // it is sent, what it leads to is not
	case s.Plain && (link || mode.IsRegular() || mode.IsDir()):
		return "" // rsync takes names that buckets do not
	}
	return why
}

// readable returns the error of who opens a file or a directory.
func readable(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && !mode.IsDir() {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// words says the verdict in a line.
func (v verdict) words() string {
	it, its := "it", "its name"
	if v.above {
		it = printable(v.at)
		its = "the name of " + it
	}
	switch v.what {
	case verdictSynced:
		return "synced"
	case verdictAbsent:
		return "not there"
	case verdictIgnored:
		if v.above {
			return fmt.Sprintf("ignored with %s by %s", it, ruleWords(v.rule))
		}
		return "ignored by " + ruleWords(v.rule)
	case string(manifest.SkipSymlink):
		return fmt.Sprintf("not synced, %s is a symbolic link", it)
	case string(manifest.SkipSpecial):
		return "not synced, " + skipWords[manifest.SkipSpecial]
	case string(manifest.SkipName):
		return fmt.Sprintf("not synced, %s is not valid UTF-8", its)
	case string(manifest.SkipReserved):
		return fmt.Sprintf("not synced, %s is skyagent's own", its)
	}
	return fmt.Sprintf("not synced, %s cannot be read (%s)", it, oneLine(bare(v.err).Error()))
}

// ruleWords returns a rule for people. What patterns are made of stays as it is.
func ruleWords(r *ignore.Rule) string {
	words := r.String()
	if strings.ContainsFunc(words, func(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }) {
		return strconv.Quote(words)
	}
	return words
}
