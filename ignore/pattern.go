package ignore

import (
	"bytes"
	"strings"
)

// A pattern is one line of a rule file. The format is that of gitignore(5).
type pattern struct {
	rule    Rule
	negated bool // what matches is not ignored
	dirOnly bool // only directories match
	base    bool // matched with the last element of a path alone

	// A text matches when it begins with literal and the rest matches glob. No
	// glob is no rest. git cuts a pattern there too, and it shows: "a**/b" is "a"
	// and then "**/b".
	literal string
	glob    *glob
}

// parse returns the patterns of a rule file, in its order. file is its name.
func parse(file string, content []byte) []pattern {
	var all []pattern
	content = bytes.TrimPrefix(content, []byte("\uFEFF"))
	line := 0
	for text := range bytes.Lines(content) {
		line++
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		if p, ok := parseLine(string(text)); ok {
			p.rule.File, p.rule.Line = file, line
			all = append(all, p)
		}
	}
	return all
}

// parseLine returns the pattern of a line, and false when it has none.
func parseLine(s string) (pattern, bool) {
	if strings.HasPrefix(s, "#") {
		return pattern{}, false
	}
	s = trimSpaces(s)
	p := pattern{rule: Rule{Pattern: s}}
	s, p.negated = strings.CutPrefix(s, "!")
	s, p.dirOnly = strings.CutSuffix(s, "/")
	if s == "" {
		return pattern{}, false
	}
	p.base = !strings.Contains(s, "/")
	s = strings.TrimPrefix(s, "/")
	if i := strings.IndexAny(s, `*?[\`); i >= 0 {
		p.literal, p.glob = s[:i], compile(s[i:], !p.base)
	} else {
		p.literal = s
	}
	return p, true
}

// trimSpaces drops trailing spaces that no backslash protects.
func trimSpaces(s string) string {
	end := 0 // after the last byte that stays
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
			end = min(i+1, len(s))
		case s[i] != ' ':
			end = i + 1
		}
	}
	return s[:end]
}

// match reports whether the path, below the directory of the rule file, is what
// the pattern names. name is the path's last element.
func (p *pattern) match(path, name string, isDir bool) bool {
	if p.dirOnly && !isDir {
		return false
	}
	text := path
	if p.base {
		text = name
	}
	rest, ok := strings.CutPrefix(text, p.literal)
	if p.glob == nil {
		return ok && rest == ""
	}
	return ok && p.glob.match(rest)
}
