package syncer

import (
	"fmt"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

const (
	// holdQuiet is how long no further deletion may come before those that are
	// held are decided on together: a tree that is being emptied never pauses
	// for that long.
	holdQuiet = 250 * time.Millisecond
	// holdMax bounds the wait where deletions never stop coming, and the wait
	// for files that are on their way.
	holdMax = 10 * time.Second

	// waveQuiet is how long no deletion may be let through until the next ones
	// are judged by themselves: a tree may be emptied slowly.
	waveQuiet = time.Minute

	guardFiles = 100 // from how many files on the loss of half is a mass deletion
)

// A guard holds deletions back until it is clear whether they are a handful of
// files or a source that vanished.
type guard struct {
	allow bool // let one mass deletion through

	base  int       // files when the wave of deletions began
	waved time.Time // when the last of it was let through
	open  bool      // the wave is the mass deletion that was allowed

	held   map[manifest.Path]struct{}
	gone   int       // files among those held, when they were last counted
	first  time.Time // when the first of those held came
	last   time.Time // when the last did
	reason string    // why nothing is let through; "" when all is well
}

func newGuard(allow bool) *guard {
	return &guard{allow: allow, held: make(map[manifest.Path]struct{})}
}

// hold adds a path that is gone from the source, which has so many files. The
// first one begins a wave, unless one is going on.
func (g *guard) hold(p manifest.Path, files int, now time.Time) {
	if _, ok := g.held[p]; ok {
		return
	}
	if len(g.held) == 0 {
		g.first = now
		if now.Sub(g.waved) > waveQuiet {
			g.base, g.open = files, false
		}
	}
	g.held[p] = struct{}{}
	g.last = now
}

// drop forgets a path that came back.
func (g *guard) drop(p manifest.Path, now time.Time) {
	if _, ok := g.held[p]; !ok {
		return
	}
	delete(g.held, p)
	if g.reason != "" { // something came back: decide anew on the rest
		g.reason = ""
		g.first, g.last = now, now
	}
}

// due returns when the held deletions can be decided on, and false when there
// are none or they wait for a person.
func (g *guard) due() (time.Time, bool) {
	if len(g.held) == 0 || g.reason != "" {
		return time.Time{}, false
	}
	at := g.last.Add(holdQuiet)
	if limit := g.first.Add(holdMax); limit.Before(at) {
		at = limit
	}
	return at, true
}

// release returns the held deletions, or sets the reason why they must not be
// carried out. sent and waiting are how many files are on their way into the
// manifest: of a directory that was moved, the old names go before the new ones
// are committed, and are still good to copy from. Only those that are being sent
// are waited for, since the others may wait for what is held.
func (g *guard) release(files *manifest.Manifest, sent, waiting int, now time.Time) []manifest.Path {
	g.gone = 0
	for p := range g.held {
		if f, ok := files.Get(p); ok && !f.IsDir() {
			g.gone++
		}
	}
	massive := g.massive(files.Count() + sent + waiting)
	switch {
	case sent > 0 && now.Before(g.first.Add(holdMax)):
		g.last = now
		return nil
	case massive == "" || g.open:
	case !g.allow:
		g.reason = massive
		return nil
	default:
		g.allow, g.open = false, true
	}
	g.waved = now
	paths := make([]manifest.Path, 0, len(g.held))
	for p := range g.held {
		paths = append(paths, p)
	}
	clear(g.held)
	g.reason = ""
	return paths
}

// massive says why the loss of what is held, of so many files, is not believed.
// What counts is how far the tree shrinks over the whole wave: a renamed
// directory's names go, and as many come.
func (g *guard) massive(files int) string {
	left := files - g.gone
	switch {
	case g.gone > 1 && left == 0:
		return fmt.Sprintf("all %d files are gone from the source", files)
	case g.base >= guardFiles && 2*left < g.base:
		return fmt.Sprintf("%d of %d files are gone from the source at once", g.base-left, g.base)
	}
	return ""
}

// grown decides anew when there are so many more files that those held are no
// longer most of them.
func (g *guard) grown(files int, now time.Time) {
	if g.reason != "" && g.massive(files) == "" {
		g.reason = ""
		g.first, g.last = now, now
	}
}
