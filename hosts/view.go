package hosts

import (
	"os"
	"path/filepath"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// A view judges what is in a source by the rules as they are while one batch is
// looked at. It reads those of the directories above what it is asked about, once.
type view struct {
	tree *tree
	dirs map[string]ignore.Dir
}

func (t *tree) view() *view { return &view{t, make(map[string]ignore.Dir)} }

// dir returns what judges the entries of a directory; "" is the root.
func (v *view) dir(name string) ignore.Dir {
	if d, ok := v.dirs[name]; ok {
		return d
	}
	var d ignore.Dir
	if name == "" {
		d = v.tree.rules.Root(v.tree.root)
	} else {
		up, base := split(name)
		d = v.dir(up).Enter(base)
	}
	v.dirs[name] = d
	return d
}

// ignores reports whether a path is left out. The root never is.
func (v *view) ignores(name string, isDir bool) bool {
	if name == "" {
		return false
	}
	dir, base := split(name)
	return v.dir(dir).Match(base, isDir) != nil
}

// decide reports whether a batch may change what is ignored beside its own
// paths. A rule file that is in an ignored directory does not. Git's directory
// does when it comes or goes, and so does its HEAD, which makes it one: they
// change with everything that git does.
func (v *view) decide(paths []manifest.Path) bool {
	if v.tree.rules == nil {
		return false
	}
	for _, p := range paths {
		dir, base := split(string(p))
		_, in := split(dir)
		if base == gitDir || base == gitHead && in == gitDir {
			_, err := os.Lstat(filepath.Join(v.tree.root, filepath.FromSlash(string(p))))
			if (v.tree.at(string(p)) != nil) != (err == nil) {
				return true
			}
		} else if ignore.Decides(base) && !v.ignores(dir, true) {
			return true
		}
	}
	return false
}

const (
	gitDir  = ".git"
	gitHead = "HEAD"
)
