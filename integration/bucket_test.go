package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// commits decodes every commit in the bucket, in order, and checks the chain.
func (r *rig) commits(t *testing.T) []manifest.Commit {
	t.Helper()
	dir := r.object(".skyagent/sources/main/log")
	names := listed(dir)
	slices.Sort(names)
	var commits []manifest.Commit
	var prev manifest.Hash
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		c, err := manifest.DecodeCommit(b)
		if err != nil {
			t.Fatalf("commit %s: %v", name, err)
		}
		if len(commits) > 0 && (c.Prev != prev || c.Generation != commits[len(commits)-1].Generation+1) {
			t.Fatalf("commit %s does not follow the one before", name)
		}
		prev = manifest.Sum(b)
		commits = append(commits, c)
	}
	return commits
}

// committed reports whether the newest state of a path has this content.
func (r *rig) committed(t *testing.T, path manifest.Path, content string) bool {
	t.Helper()
	m := manifest.New()
	for _, c := range r.commits(t) {
		m.Apply(c.Changes)
	}
	f, ok := m.Get(path)
	return ok && f.Hash == manifest.Sum([]byte(content))
}

// checkBucket checks that what the log says is there, and is what it says:
// the newest state of every path that a commit names. It returns the commits.
func (r *rig) checkBucket(t *testing.T) []manifest.Commit {
	t.Helper()
	commits := r.commits(t)
	m := manifest.New()
	for _, c := range commits {
		m.Apply(c.Changes)
	}
	for f := range m.All() {
		if f.IsDir() {
			continue
		}
		b, err := os.ReadFile(r.object(string(f.Path)))
		if err != nil {
			t.Errorf("a commit names what is not there: %v", err)
		} else if manifest.Sum(b) != f.Hash {
			t.Errorf("%s: its bytes are not those of its commit", f.Path)
		}
	}
	return commits
}

// logDifferences logs what the log says of each name that is not the same in
// source and replica: a wrong log is the watch's fault, a right one the copy's.
func (r *rig) logDifferences(t *testing.T) {
	t.Helper()
	commits := r.commits(t)
	for _, d := range differences(r.source, r.replica) {
		name, _, _ := strings.Cut(d, ":")
		t.Logf("%s; in the replica it holds %v", d, listed(filepath.Join(r.replica, name)))
		for _, c := range commits {
			for _, change := range c.Changes {
				if p := string(change.Path); p == name || strings.HasPrefix(p, name+"/") {
					t.Logf("commit %d: %v %s, mode %v, %d bytes", c.Generation, change.Op, p, change.Mode, change.Size)
				}
			}
		}
	}
}
