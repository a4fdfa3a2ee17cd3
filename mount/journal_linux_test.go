package mount

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestJournalFullDisk has no room for a while: what is not noted is said not to
// be, and what is noted later is not lost in the line that was cut.
func TestJournalFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	noted(t, j, entry{Op: opDelete, Key: "before"})
	file := j.file
	if j.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := j.begin(entry{Op: opDelete, Key: "lost"}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("begin on a full disk: %v", err)
	}
	j.file.Close()
	j.file = file
	if _, err := file.WriteString(`{"id":2,"op":"del`); err != nil {
		t.Fatal(err)
	}
	noted(t, j, entry{Op: opDelete, Key: "after"})
	again, err := openJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range again.left() {
		keys = append(keys, e.Key)
	}
	if len(keys) != 2 || keys[0] != "before" || keys[1] != "after" {
		t.Errorf("left %q", keys)
	}
}
