package mount

import (
	"os"
	"path/filepath"
	"testing"
)

// TestJournal reads back what was open when the process ended, in order, with
// half a line at the end.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	noted(t, j, entry{Op: opDelete, Key: "a"})
	done := noted(t, j, entry{Op: opMove, Key: "b", To: "c"})
	noted(t, j, entry{Op: opMkdir, Key: "d/"})
	j.end(done)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":9,"op":"del`); err != nil {
		t.Fatal(err)
	}
	f.Close()

	again, err := openJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	left := again.left()
	if len(left) != 2 || left[0].Key != "a" || left[1].Key != "d/" {
		t.Fatalf("left %+v", left)
	}
	for _, e := range left {
		again.end(e.ID)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("an empty journal has %d bytes, %v", info.Size(), err)
	}
}

func noted(t *testing.T, j *journal, e entry) uint64 {
	t.Helper()
	id, err := j.begin(e)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
