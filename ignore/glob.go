package ignore

import "strings"

// A glob is a compiled pattern with wildcards: tokens that are matched in their
// order. Those of tail match one byte each, and are looked at first: nearly all
// texts end otherwise. It is never nil.
type glob struct{ head, tail []token }

// A token matches bytes of the text, or says where matching may go on.
type token struct {
	kind kind
	char byte       // of same
	set  *[256]bool // of among
}

type kind uint8

const (
	same  kind = iota // the byte char
	slot              // any byte but a slash
	among             // a byte in set
	star              // any number of bytes that are no slash
	deep              // any number of bytes
	skip              // nothing; the two tokens that follow may be left out
	never             // no text at all
)

// compile returns the glob of s. In a pattern of paths, two stars between
// slashes, or at an end, stand for directories; in others, and elsewhere, they
// are one star.
func compile(s string, paths bool) *glob {
	g := tokens(s, paths)
	tail := len(g)
	for tail > 0 && g[tail-1].single() && (tail < 3 || g[tail-3].kind != skip) {
		tail--
	}
	return &glob{g[:tail], g[tail:]}
}

func tokens(s string, paths bool) []token {
	g := make([]token, 0, len(s))
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '*':
			end := i
			for end < len(s) && s[end] == '*' {
				end++
			}
			g = append(g, stars(s, i, end, paths)...)
			i = end
		case '?':
			g = append(g, token{kind: slot})
			i++
		case '[':
			set, n := parseSet(s[i:])
			if n == 0 {
				return []token{{kind: never}}
			}
			g = append(g, token{kind: among, set: set})
			i += n
		case '\\':
			if i+1 == len(s) {
				return []token{{kind: never}}
			}
			g = append(g, token{kind: same, char: s[i+1]})
			i += 2
		default:
			g = append(g, token{kind: same, char: c})
			i++
		}
	}
	return g
}

// stars returns what the stars s[from:to] stand for.
func stars(s string, from, to int, paths bool) []token {
	rest := s[to:]
	bounded := (from == 0 || s[from-1] == '/') && (rest == "" || rest[0] == '/' || strings.HasPrefix(rest, `\/`))
	switch {
	case to-from == 1 || !paths || !bounded:
		return []token{{kind: star}}
	case strings.HasPrefix(rest, "/"):
		return []token{{kind: skip}, {kind: deep}} // and the slash: "a/**/b" is "a/b", too
	}
	return []token{{kind: deep}}
}

// match reports whether g matches the whole text.
func (g *glob) match(text string) bool {
	at := len(text) - len(g.tail)
	if at < 0 {
		return false
	}
	for i := range g.tail {
		if !g.tail[i].takes(text[at+i]) {
			return false
		}
	}
	return matches(g.head, text[:at])
}

// matches reports whether g matches the whole text. Its cost is bounded by the
// product of the two lengths, whatever they are: it follows all ways at once.
func matches(g []token, text string) bool {
	if len(g) == 1 && g[0].kind == star {
		return strings.IndexByte(text, '/') < 0
	}
	var room [2][64]bool
	now, next := room[0][:], room[1][:]
	if len(g) >= len(now) {
		now, next = make([]bool, len(g)+1), make([]bool, len(g)+1)
	}
	reach(g, now, 0)
	for i := 0; i < len(text); i++ {
		clear(next)
		alive := false
		for at, here := range now[:len(g)] {
			if !here {
				continue
			}
			switch t := &g[at]; {
			case !t.takes(text[i]):
				continue
			case t.kind == star || t.kind == deep:
				reach(g, next, at)
			default:
				reach(g, next, at+1)
			}
			alive = true
		}
		if !alive {
			return false
		}
		now, next = next, now
	}
	return now[len(g)]
}

// reach notes that matching may go on at a token, and where else it may then.
func reach(g []token, places []bool, at int) {
	for !places[at] {
		places[at] = true
		if at == len(g) {
			return
		}
		switch g[at].kind {
		case skip:
			reach(g, places, at+3)
		case star, deep:
		default:
			return
		}
		at++
	}
}

// single reports whether t matches one byte, always.
func (t *token) single() bool { return t.kind == same || t.kind == slot || t.kind == among }

// takes reports whether t matches c.
func (t *token) takes(c byte) bool {
	switch t.kind {
	case same:
		return c == t.char
	case slot, star:
		return c != '/'
	case among:
		return t.set[c]
	case deep:
		return true
	}
	return false
}

// parseSet returns the set at the start of s, as "[a-z]", and its length there,
// which is 0 when it has no end or names a class that there is not.
func parseSet(s string) (*[256]bool, int) {
	var set [256]bool
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	from := -1 // what a range would begin with
	for first := true; ; first = false {
		if i >= len(s) {
			return nil, 0
		}
		c := s[i]
		switch {
		case c == ']' && !first:
			return finish(&set, negated), i + 1
		case c == '[' && i+1 < len(s) && s[i+1] == ':':
			end := strings.IndexByte(s[i+2:], ']')
			if end < 0 {
				return nil, 0
			}
			name, ok := strings.CutSuffix(s[i+2:i+2+end], ":")
			if !ok { // no class: a bracket among others
				set['['], from = true, '['
				i++
				continue
			}
			in := classes[name]
			if in == nil {
				return nil, 0
			}
			for c := range set {
				set[c] = set[c] || c < 128 && in(byte(c))
			}
			from, i = -1, i+2+end+1
			continue
		case c == '-' && from >= 0 && i+1 < len(s) && s[i+1] != ']':
			i++
			if s[i] == '\\' {
				i++
			}
			if i >= len(s) {
				return nil, 0
			}
			for c := from; c <= int(s[i]); c++ {
				set[c] = true
			}
			from, i = -1, i+1
			continue
		case c == '\\':
			i++
			if i >= len(s) {
				return nil, 0
			}
			c = s[i]
		}
		set[c], from = true, int(c)
		i++
	}
}

// finish returns the set that is meant: no set has the slash.
func finish(set *[256]bool, negated bool) *[256]bool {
	for c := range set {
		set[c] = set[c] != negated && c != '/'
	}
	return set
}

// classes are the sets that have names, for ASCII.
var classes = map[string]func(byte) bool{
	"alnum":  func(c byte) bool { return letter(c) || digit(c) },
	"alpha":  letter,
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < ' ' || c == 127 },
	"digit":  digit,
	"graph":  graph,
	"lower":  lower,
	"print":  func(c byte) bool { return c == ' ' || graph(c) },
	"punct":  func(c byte) bool { return graph(c) && !letter(c) && !digit(c) },
	"space":  func(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' },
	"upper":  upper,
	"xdigit": func(c byte) bool { return digit(c) || 'a' <= c|32 && c|32 <= 'f' },
}

func lower(c byte) bool  { return 'a' <= c && c <= 'z' }
func upper(c byte) bool  { return 'A' <= c && c <= 'Z' }
func letter(c byte) bool { return lower(c) || upper(c) }
func digit(c byte) bool  { return '0' <= c && c <= '9' }
func graph(c byte) bool  { return '!' <= c && c <= '~' }
