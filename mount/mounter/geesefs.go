package mounter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/skyagent/skyagent/manifest"
)

// geeseAttribute is what GeeseFS takes for the wish to look again.
const geeseAttribute = ".invalidate"

// A geesefs is refreshed by an attribute: set on a file or directory that it
// knows, it looks at that again; set on a directory, also for what is new there.
type geesefs struct{ cfg Config }

func newGeeseFS(cfg Config) (*geesefs, error) {
	if s := cfg.Location.Scheme; s != "s3" && s != "r2" {
		return nil, fmt.Errorf("it mounts no %s: bucket", s)
	}
	return &geesefs{cfg}, nil
}

func (g *geesefs) filesystem() string { return "fuse.geesefs" }

// command lets a close upload: else it is told of what is not in the bucket.
func (g *geesefs) command() (name string, args, env []string) {
	args = []string{"-f", "--fsync-on-close"}
	if e := endpoint(g.cfg); e != "" {
		args = append(args, "--endpoint", e)
	}
	bucket := g.cfg.Location.Bucket
	if g.cfg.Location.Prefix != "" {
		bucket += ":" + g.cfg.Location.Prefix
	}
	return "geesefs", append(args, bucket, g.cfg.Dir), nil
}

func (g *geesefs) prepare() error { return nil }

// refresh sets the attribute on each path, and for those that are not there on
// the nearest directory above that is, once.
func (g *geesefs) refresh(ctx context.Context, paths []manifest.Path) error {
	done := map[manifest.Path]bool{}
	for _, p := range paths {
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			if done[p] {
				break
			}
			done[p] = true
			err := g.cfg.Setxattr(filepath.Join(g.cfg.Dir, filepath.FromSlash(string(p))), geeseAttribute, nil)
			if err == nil {
				break
			}
			if p == "" || !gone(err) {
				return fmt.Errorf("set the attribute %s of %q: %w", geeseAttribute, p, err)
			}
			p = p.Dir()
		}
	}
	return nil
}

// gone reports whether a name is not there, or its parent is no directory.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || notDir(err) }
