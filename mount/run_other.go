//go:build !linux

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Run is an error: mounts need Linux.
func (m *FS) Run(ctx context.Context, ready func()) error {
	return fmt.Errorf("mount %s: %w: mounts need Linux", m.opt.Dir, errors.ErrUnsupported)
}

func nameless(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "stage-")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

func linkFile(*os.File, string) (*os.File, error) { return nil, errors.ErrUnsupported }

func readOnly(**os.File) error { return errors.ErrUnsupported }
