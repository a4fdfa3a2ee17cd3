package syncer

import (
	"context"
	"fmt"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// ruleByObject makes of an object that nobody claims at its revision what it
// says of itself. One that does not say its hash is read for it.
func (r *Replica) ruleByObject(ctx context.Context, p manifest.Path, info objstore.Info) ruling {
	f := fileOf(p, info)
	if f.Hash.IsZero() {
		hash, err := r.hashObject(ctx, f)
		if moved(err) {
			return ruling{} // it changes under our eyes: the next look decides
		}
		if err != nil {
			return ruling{err: err}
		}
		f.Hash = hash
	}
	return ruling{change: manifest.Change{Op: manifest.Put, File: f}, act: true, beside: true}
}

// fileOf returns what an object says of itself. What it does not say is as a
// file is made: mode 0644, and the time of the object.
func fileOf(p manifest.Path, info objstore.Info) manifest.File {
	f := manifest.File{Path: p, Mode: 0o644, Size: info.Size, MTime: info.ModTime.UnixNano(), Rev: string(info.Rev)}
	f.TakeMeta(info.Meta)
	return f
}

// hashObject reads the object of f and returns its hash.
func (r *Replica) hashObject(ctx context.Context, f manifest.File) (manifest.Hash, error) {
	body, err := r.get(ctx, f, 0, -1)
	if err != nil {
		return manifest.Hash{}, fmt.Errorf("read %s: %w", f.Path, err)
	}
	defer body.Close()
	hash, _, err := manifest.HashReader(body, 0)
	if err != nil {
		return hash, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return hash, nil
}
