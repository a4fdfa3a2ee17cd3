package manifest_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A symlink stays one in a note, in a commit and in an object's metadata.
func TestLinkIsKept(t *testing.T) {
	link := file("link", "target")
	link.Mode = fs.ModeSymlink | 0o777
	write := manifest.Write{Change: manifest.Change{Op: manifest.Put, File: link}}
	notes, err := manifest.DecodeNote(manifest.EncodeNote([]manifest.Writes{{Writer: "w", Session: "s", Seq: 1, Time: time.Now(), Changes: []manifest.Write{write}}}))
	if err != nil || notes[0].Changes[0].Mode != link.Mode {
		t.Errorf("a note has %v, %v", notes, err)
	}
	commit := aCommit()
	commit.Changes = []manifest.Change{write.Change}
	if commit, err = manifest.DecodeCommit(manifest.EncodeCommit(commit)); err != nil || commit.Changes[0].Mode != link.Mode {
		t.Errorf("a commit has %v, %v", commit.Changes, err)
	}
	got := manifest.File{Mode: 0o644}
	if got.TakeMeta(link.Meta("w", "")); got.Mode != link.Mode {
		t.Errorf("metadata say %v", got.Mode)
	}
	if got.TakeMeta(file("f", "x").Meta("w", "")); got.IsLink() {
		t.Errorf("metadata of a file say %v", got.Mode)
	}
	if link.Same(file("link", "target")) || link.SameContent(file("link", "target")) {
		t.Error("a symlink is the same as a file that holds its target")
	}
}
