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
	// holdMax bounds the wait where deletions never stop coming.
	holdMax = 10 * time.Second

	guardFiles = 100 // from how many files on the loss of half is a mass deletion
)

// A guard holds deletions back until it is clear whether they are a handful of
// files or a source that vanished.
type guard struct {
	allow bool // let one mass deletion through

	held   map[manifest.Path]struct{}
	files  int       // regular files in the manifest when the first of those held came
	first  time.Time // when that was
	last   time.Time // when the last came
	reason string    // why nothing is let through; "" when all is well
}

func newGuard(allow bool) *guard {
	return &guard{allow: allow, held: make(map[manifest.Path]struct{})}
}

// hold adds a path that is gone from the source, which has so many files.
func (g *guard) hold(p manifest.Path, files int, now time.Time) {
	if _, ok := g.held[p]; ok {
		return
	}
	if len(g.held) == 0 {
		g.first, g.files = now, files
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

// wait puts the decision off: what is under way may yet say that files were
// moved and not deleted.
func (g *guard) wait(now time.Time) { g.first, g.last = now, now }

// massive says why the held deletions are not believed, given the manifest as
// it is now; "" when they are. A file whose content stands under a name that
// stays was moved, and is not gone.
func (g *guard) massive(files *manifest.Manifest) string {
	gone := 0
	for p := range g.held {
		if f, ok := files.Get(p); ok && !f.IsDir() && !g.moved(f, files) {
			gone++
		}
	}
	return massDeletion(gone, g.files)
}

func (g *guard) moved(f manifest.File, files *manifest.Manifest) bool {
	twin, ok := files.Find(f.Hash)
	if !ok || twin.Path == f.Path {
		return false
	}
	_, goes := g.held[twin.Path]
	return !goes
}

// massDeletion says why the loss of gone of so many files is not believed.
func massDeletion(gone, files int) string {
	switch {
	case gone > 1 && gone >= files:
		return fmt.Sprintf("all %d files are gone from the source", files)
	case files >= guardFiles && 2*gone > files:
		return fmt.Sprintf("%d of %d files are gone from the source at once", gone, files)
	}
	return ""
}

// release returns the held deletions, or keeps them for the reason massive.
func (g *guard) release(massive string) []manifest.Path {
	if massive != "" && !g.allow {
		g.reason = massive
		return nil
	}
	if massive != "" {
		g.allow = false // once
	}
	paths := make([]manifest.Path, 0, len(g.held))
	for p := range g.held {
		paths = append(paths, p)
	}
	clear(g.held)
	g.reason = ""
	return paths
}
