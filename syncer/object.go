package syncer

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

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

// isLink reports whether an object is a symlink that a mount made. A replica
// leaves it out, and what stood there before it goes.
func isLink(info objstore.Info) bool {
	var f manifest.File
	f.TakeMeta(info.Meta)
	return f.IsLink()
}

// fileOf returns what an object says of itself. What it does not say is as a
// file is made: mode 0644, and the time of the object.
func fileOf(p manifest.Path, info objstore.Info) manifest.File {
	f := manifest.File{Path: p, Mode: 0o644, Size: info.Size, MTime: info.ModTime.UnixNano(), Rev: string(info.Rev)}
	if h, err := manifest.ParseHash(info.Meta[manifest.MetaHash]); err == nil {
		f.Hash = h
	}
	if mode, err := strconv.ParseUint(info.Meta[manifest.MetaMode], 8, 32); err == nil {
		f.Mode = fs.FileMode(mode) & fs.ModePerm
	}
	if ns, ok := parseTime(info.Meta[manifest.MetaMTime]); ok {
		f.MTime = ns
	}
	return f
}

// parseTime reads seconds since 1970 with up to nine decimals, as rclone writes
// them.
func parseTime(s string) (ns int64, ok bool) {
	whole, part, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(part) > 9 || sec < 0 || sec > 1<<33 {
		return 0, false
	}
	frac, err := strconv.ParseUint(part+"000000000"[len(part):], 10, 64)
	return sec*1e9 + int64(frac), err == nil
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
