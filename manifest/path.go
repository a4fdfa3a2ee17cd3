package manifest

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Reserved is the top-level name that skyagent keeps for itself, in buckets
// (PREFIX/.skyagent/…) and in replicas (temporary files). A source's own entry
// of that name is skipped.
const Reserved = ".skyagent"

// A Path names a file inside a source: slash-separated, relative, valid UTF-8,
// and valid by fs.ValidPath, so it has no "..", no empty element and no
// leading slash. The root itself has no Path. It is a type of its own so that
// it cannot be confused with a path on disk.
type Path string

// ParsePath checks that s may be used as a Path.
func ParsePath(s string) (Path, error) {
	if s == "." || !fs.ValidPath(s) || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("path %q is not relative and clean", s)
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("path %q is not valid UTF-8", s)
	}
	p := Path(s)
	if p.Top() == Reserved {
		return "", fmt.Errorf("path %q is reserved", s)
	}
	return p, nil
}

// Dir returns the path of the directory that holds p, or "" when that is the root.
func (p Path) Dir() Path {
	if i := strings.LastIndexByte(string(p), '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Base returns the last element of p.
func (p Path) Base() string { return path.Base(string(p)) }

// What every store and file system takes, in bytes.
const (
	maxName = 255
	maxPath = 1024
)

// Conflict returns the path beside p under which a version is kept that lost at
// t to another one. The end of a long name makes way for that.
func (p Path) Conflict(t time.Time) Path {
	suffix := ".skyagent-conflict-" + t.UTC().Format("20060102T150405.000Z")
	dir, name := p.Dir(), p.Base()
	room := max(0, min(maxName, maxPath-len(dir.Join("")))-len(suffix))
	for len(name) > room {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return dir.Join(name + suffix)
}

// Top returns the first element of p.
func (p Path) Top() string {
	top, _, _ := strings.Cut(string(p), "/")
	return top
}

// Join returns the path of the entry name in directory p; "" is the root.
func (p Path) Join(name string) Path {
	if p == "" {
		return Path(name)
	}
	return p + "/" + Path(name)
}

// Within reports whether p lies below directory dir; everything lies below "".
func (p Path) Within(dir Path) bool {
	return dir == "" || len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}
