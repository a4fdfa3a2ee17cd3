//go:build !unix

package file

import (
	"fmt"
	"os"
	"runtime"

	"errors"
)

// flock fails: without locks between processes no condition could be kept, so
// a bucket in a directory can only be read here.
func flock(*os.File, bool) error {
	return fmt.Errorf("file locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func funlock(*os.File) error { return nil }
