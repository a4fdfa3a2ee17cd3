package mount

import (
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A graveyard remembers which revisions were removed or replaced lately: word of
// a write may come after word of what followed it, when the two come from
// different workers. A store that names revisions by their content has the same
// one again when the content comes again.
type graveyard struct {
	young, old map[grave]struct{}
}

type grave struct {
	path manifest.Path
	rev  objstore.Rev
}

// buried bounds the revisions that each half of a graveyard remembers.
const buried = 1 << 14

// add notes that p had revision rev, which is gone; "" is none.
func (g *graveyard) add(p manifest.Path, rev objstore.Rev) {
	if rev == "" {
		return
	}
	if len(g.young) >= buried {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = map[grave]struct{}{}
	}
	g.young[grave{p, rev}] = struct{}{}
}

// has reports whether p had revision rev lately, before what it has now.
func (g *graveyard) has(p manifest.Path, rev objstore.Rev) bool {
	_, young := g.young[grave{p, rev}]
	_, old := g.old[grave{p, rev}]
	return young || old
}
