package watcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/skyagent/skyagent/manifest"
)

// start watches the root and every directory below it. Nobody is told what is
// found: the Rescan that follows covers it.
func (t *tree) start(ctx context.Context) error {
	t.begin()
	w, err := t.watch("")
	if err != nil {
		return err
	}
	if w == denied {
		return fmt.Errorf("root cannot be watched: %w", os.ErrPermission)
	}
	t.top.watch = w
	t.added(t.top, "")
	t.list(ctx, t.top, "", true)
	return ctx.Err()
}

// sweep makes the tree what it is on disk, whatever events were lost: watches
// what is not, and drops what is gone. A Rescan has to follow.
func (t *tree) sweep(ctx context.Context) {
	t.warned = t.warned && t.count[exhausted] > 0
	t.list(ctx, t.top, "", true)
}

// visit brings the tree in line with what is at p, in the directory parent. In
// a sweep the known part of the tree is visited too; else everything found is
// told.
func (t *tree) visit(ctx context.Context, parent *node, p manifest.Path, sweep bool) {
	if ctx.Err() != nil {
		return
	}
	id, err := identify(t.disk(p))
	ignored := err == nil && id.dir && t.judge.Ignores(p, true) != nil
	n := parent.children[p.Base()]
	if n != nil && (err != nil || n.id != id || ignored) {
		t.drop(n, p)
		n = nil
	}
	if err != nil || !id.dir || ignored {
		return
	}
	switch {
	case n == nil:
		n = t.add(parent, p, id)
	case !sweep:
		return
	case n.watch != watched:
		t.again(n, p)
	}
	if n != nil && n.watch != alias && n.watch != denied {
		t.list(ctx, n, p, sweep)
	}
}

// list visits what is in the directory of n, at p. It must be watched by then:
// what is created after the listing is an event.
func (t *tree) list(ctx context.Context, n *node, p manifest.Path, sweep bool) {
	dirs, err := t.names(p, sweep)
	if err != nil {
		t.unreadable(n, p, err)
	}
	for name, c := range n.children {
		if err == nil && !dirs[name] {
			t.drop(c, p.Join(name))
		}
	}
	for name := range dirs {
		t.visit(ctx, n, p.Join(name), sweep)
	}
}

// names returns the directories in the one at p, and tells of all names in it
// unless this is a sweep. Names that cannot be in a manifest do not exist.
func (t *tree) names(p manifest.Path, sweep bool) (map[string]bool, error) {
	f, err := os.Open(t.disk(p))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var dirs map[string]bool
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			q, invalid := manifest.ParsePath(string(p.Join(e.Name())))
			if invalid != nil || t.only != "" && q.Top() != t.only {
				continue
			}
			if !sweep && t.judge.Ignores(q, e.IsDir()) == nil {
				t.found(q)
			}
			if e.IsDir() {
				if dirs == nil {
					dirs = map[string]bool{}
				}
				dirs[e.Name()] = true
			}
		}
		if err == io.EOF {
			return dirs, nil
		}
		if err != nil {
			return dirs, err
		}
	}
}

// unreadable notes that the directory of n could not be listed. One that is
// gone is told by an event.
func (t *tree) unreadable(n *node, p manifest.Path, err error) {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return
	}
	t.log.Warn("directory cannot be read, it is skipped", "path", p, "err", err)
}
