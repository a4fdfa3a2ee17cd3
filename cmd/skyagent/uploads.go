package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// uploadsDir is where a source's unfinished multipart uploads are remembered:
// beside its index, whose lock makes it one process's.
func (p *program) uploadsDir(t target, tree manifest.Tree) string {
	return filepath.Join(filepath.Dir(p.places.index("sources", t.stateName(p.flags.source, tree.String()))), "uploads")
}

// patientWith is how long an unfinished upload is kept for a file that failed.
const patientWith = 24 * time.Hour

// abortUploads aborts the multipart uploads of earlier runs that nobody will go
// on with: after a pass that left nothing undone all of them, else the old ones.
func (p *program) abortUploads(ctx context.Context, store objstore.Store, st syncer.SourceStatus) {
	uploads, ok := objstore.As[interface {
		AbortUploads(ctx context.Context, before time.Time) (int, error)
	}](store)
	if !ok {
		return
	}
	before := time.Now()
	if len(st.Failed) > 0 {
		before = before.Add(-patientWith)
	}
	n, err := uploads.AbortUploads(ctx, before)
	if n > 0 || err != nil {
		p.logger().Info("aborted unfinished uploads of earlier runs", "uploads", n, "err", err)
	}
}
