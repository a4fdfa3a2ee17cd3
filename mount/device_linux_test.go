package mount

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// TestNoDevice looks for FUSE where it is not.
func TestNoDevice(t *testing.T) {
	err := hasDevice(filepath.Join(t.TempDir(), "fuse"))
	if !errors.Is(err, ErrNoDevice) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
