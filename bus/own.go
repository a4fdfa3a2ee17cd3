package bus

import (
	"context"
	"errors"
	"path/filepath"
)

// Own runs this machine's embedded bus as long as it is nobody else's: it waits
// until no other process owns dir, starts a server, writes its address there
// and serves until ctx ends; then it returns nil. Many processes may call it;
// when the owner dies, one of the others goes on. The former owner's port is
// taken again when it is free, unless o.Port wishes another.
func Own(ctx context.Context, dir string, o ServerOptions) error {
	lock, err := waitLockFile(ctx, filepath.Join(dir, "bus.lock"))
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	defer lock.release()
	if former, err := readAddress(dir); err == nil && o.Port == 0 {
		o.Port = former.port()
	}
	s, err := NewServer(o)
	if err != nil {
		return err
	}
	return ignoreEnd(ctx, serveAt(ctx, s, dir, o.Ready))
}

// serveAt runs s and keeps its address in dir while it runs.
func serveAt(ctx context.Context, s *Server, dir string, ready func(Address)) error {
	var at Address
	err := s.Run(ctx, func(a Address) error {
		at = a
		if err := writeAddress(dir, a); err != nil {
			return err
		}
		if ready != nil {
			ready(a)
		}
		return nil
	})
	if at.URL == "" {
		return err
	}
	// The port stays written down for the next owner; the token dies.
	return errors.Join(err, writeAddress(dir, Address{URL: at.URL}))
}

// ignoreEnd turns the error of a context that has ended into nil.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
