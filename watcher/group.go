package watcher

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
)

// A Group watches the places of a tree as one source. All methods may be called
// at the same time; Next is for one reader.
type Group struct {
	members []member
	batches chan manifest.Batch
}

// A member is the watcher of one place.
type member struct {
	*Watcher
	at manifest.Path // what its paths are below; "" where they are the source's own
}

// NewGroup returns a Group for the places of t. options says how each is
// watched; Root, Only and Ignore do not count. It starts nothing.
func NewGroup(t manifest.Tree, options func() Options) *Group {
	g := &Group{batches: make(chan manifest.Batch)}
	for _, place := range t.Places() {
		o := options()
		o.Root, o.Only, o.Ignore = place.Dir, "", t.Rules()
		m := member{at: manifest.Path(place.At)}
		if place.Only {
			o.Only, o.Ignore, m.at = place.At, nil, ""
		}
		m.Watcher = New(o)
		g.members = append(g.members, m)
	}
	return g
}

// Run watches until ctx ends and then returns nil. It returns an error when a
// place cannot be watched at the start. It may be called once.
func (g *Group) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	first := make(chan manifest.Batch, len(g.members))
	started := make(chan struct{}) // closed when every place is watched
	for _, m := range g.members {
		group.Go(func() error { return m.Run(ctx) })
		group.Go(func() error {
			g.forward(ctx, m, first, started)
			return nil
		})
	}
	group.Go(func() error {
		g.start(ctx, first, started)
		return nil
	})
	return group.Wait()
}

// start hands out the first batches as one: the reader must not scan before
// every place is watched.
func (g *Group) start(ctx context.Context, first <-chan manifest.Batch, started chan<- struct{}) {
	all := manifest.Batch{Rescan: reasonStart}
	for range g.members {
		select {
		case <-ctx.Done():
			return
		case b := <-first:
			all.Paths = append(all.Paths, b.Paths...)
		}
	}
	g.hand(ctx, all)
	close(started)
}

// forward hands out what m says, under the source's paths.
func (g *Group) forward(ctx context.Context, m member, first chan<- manifest.Batch, started <-chan struct{}) {
	for n := 0; ; n++ {
		b, err := m.Next(ctx)
		if err != nil {
			return
		}
		if m.at != "" {
			for i, p := range b.Paths {
				b.Paths[i] = m.at.Join(string(p))
			}
		}
		if n == 0 {
			first <- b
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-started:
		}
		g.hand(ctx, b)
	}
}

func (g *Group) hand(ctx context.Context, b manifest.Batch) {
	select {
	case <-ctx.Done():
	case g.batches <- b:
	}
}

// Next blocks until something has settled in any place, or a rescan is due. Its
// error is ctx's.
func (g *Group) Next(ctx context.Context) (manifest.Batch, error) {
	select {
	case <-ctx.Done():
		return manifest.Batch{}, ctx.Err()
	case b := <-g.batches:
		return b, nil
	}
}
