package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// TestErrno holds what programs are told to what the docs say: what the network
// met on the way to the store is an input/output error, whatever a socket says.
func TestErrno(t *testing.T) {
	m := New(Options{})
	defer m.cancel()
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	ofStore := func(err error) error { return &objstore.Error{Op: objstore.OpGet, Key: "k", Err: err} }
	for _, tc := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{errStale, syscall.ESTALE},
		{fmt.Errorf("stage: %w", &os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}), syscall.ENOSPC},
		{ofStore(objstore.Network(refused)), syscall.EIO},
		{ofStore(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), syscall.EIO},
		{objstore.Network(refused), syscall.EIO},
		{ofStore(fs.ErrPermission), syscall.EACCES},
		{ofStore(fs.ErrNotExist), syscall.ENOENT},
		{ofStore(objstore.ErrNoBucket), syscall.EIO},
		{ofStore(objstore.ErrPrecondition), syscall.ESTALE},
		{errors.New("other"), syscall.EIO},
	} {
		if got := m.errno(tc.err); got != tc.want {
			t.Errorf("%v is answered with %v, want %v", tc.err, got, tc.want)
		}
	}
}
