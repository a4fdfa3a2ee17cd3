package metrics

import (
	"errors"
	"syscall"
)

// taken reports whether err says that somebody else listens there (WSAEADDRINUSE).
func taken(err error) bool { return errors.Is(err, syscall.Errno(10048)) }
