package mount

import (
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A graveyard remembers which revisions were removed lately: word of a write
// may come after word of its removal, when the two come from different workers.
type graveyard struct {
	young, old map[manifest.Path]objstore.Rev
}

// buried bounds the removals that each half of a graveyard remembers.
const buried = 1 << 14

// add notes that revision rev of p was removed.
func (g *graveyard) add(p manifest.Path, rev objstore.Rev) {
	if len(g.young) >= buried {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = map[manifest.Path]objstore.Rev{}
	}
	g.young[p] = rev
}

// has reports whether rev is what was last removed from p.
func (g *graveyard) has(p manifest.Path, rev objstore.Rev) bool {
	was, ok := g.young[p]
	if !ok {
		was, ok = g.old[p]
	}
	return ok && was == rev
}
