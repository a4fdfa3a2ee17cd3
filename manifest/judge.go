package manifest

import "github.com/skyagent/skyagent/ignore"

// A Judge says what of a tree is ignored. It reads the rules of a directory
// once, when it first meets it: a Judge is for one batch of paths.
type Judge struct {
	tree Tree
	dirs map[Path]ignore.Dir
}

// Judge returns a Judge of the tree.
func (t Tree) Judge() *Judge { return &Judge{tree: t} }

// Ignores returns the rule by which p is ignored, nil when it is not. What is in
// an ignored directory is ignored, too.
func (j *Judge) Ignores(p Path, isDir bool) *ignore.Rule {
	if j.tree.rules == nil {
		return nil
	}
	return j.dir(p.Dir()).Match(p.Base(), isDir)
}

func (j *Judge) dir(p Path) ignore.Dir {
	if d, ok := j.dirs[p]; ok {
		return d
	}
	var above ignore.Dir
	if p != "" {
		above = j.dir(p.Dir())
	}
	d := j.tree.rulesOf(above, p)
	if j.dirs == nil {
		j.dirs = map[Path]ignore.Dir{}
	}
	j.dirs[p] = d
	return d
}

// rulesOf returns what judges the entries of directory p, when above judges those
// of the directory that p is in. The names of places are judged by nobody: they
// were asked for.
func (t Tree) rulesOf(above ignore.Dir, p Path) ignore.Dir {
	switch {
	case t.rules == nil:
		return ignore.Dir{}
	case p == "" && t.one != "":
		return t.rules.Root(t.one)
	case p == "":
		return ignore.Dir{}
	case t.one == "" && p.Dir() == "":
		i, below := t.Find(p)
		if i < 0 || below != "" {
			return ignore.Dir{}
		}
		return t.rules.Root(t.places[i].Dir)
	}
	return above.Enter(p.Base())
}
