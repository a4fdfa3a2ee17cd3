package integration_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// TestFence has a rival commit first: the watch ends, names it, and has
// overwritten nothing.
func TestFence(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "one")
	watch := r.watch(t)
	commits := r.commits(t)
	last := commits[len(commits)-1]
	rival := manifest.EncodeCommit(manifest.Commit{
		Epoch: last.Epoch, Generation: last.Generation + 1, Prev: manifest.Sum(manifest.EncodeCommit(last)),
		Writer: "rival", WriteID: "1", Time: time.Now(),
	})
	key := fmt.Sprintf(".skyagent/sources/main/log/%020d", last.Generation+1)
	store := r.store(t)
	_, err := store.Put(t.Context(), key, bytes.NewReader(rival), int64(len(rival)), objstore.PutOptions{})
	must(t, err)
	write(t, filepath.Join(r.source, "a"), "two")
	if code := watch.Ended(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	for _, w := range []string{"was committed by writer rival", "hint: another agent writes this source"} {
		if !strings.Contains(watch.Stderr(), w) {
			t.Errorf("no %q in:\n%s", w, watch.Stderr())
		}
	}
	if got := read(t, r.object(key)); got != string(rival) {
		t.Error("the rival's commit was overwritten")
	}
}
