//go:build unix

package metrics

import (
	"errors"
	"syscall"
)

// taken reports whether err says that somebody else listens there.
func taken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
