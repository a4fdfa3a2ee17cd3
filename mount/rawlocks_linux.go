package mount

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (r *raw) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	return r.setLock(ctx, in, false)
}

// SetLkw waits for a lock, and ends with any signal, as its callers want. The
// kernel asks again for those who do not.
func (r *raw) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	ctx, end := context.WithCancel(r.m.ctx)
	defer end()
	go func() {
		select {
		case <-cancel:
			end()
		case <-ctx.Done():
		}
	}()
	return r.setLock(ctx, in, true)
}

func (r *raw) setLock(ctx context.Context, in *fuse.LkIn, wait bool) fuse.Status {
	id, c, code := r.lockOf(in)
	if !code.Ok() {
		return code
	}
	return r.status(r.m.setLock(ctx, id, c, wait))
}

func (r *raw) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	id, c, code := r.lockOf(in)
	if !code.Ok() {
		return code
	}
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	other, err := r.m.testLock(ctx, id, c)
	out.Lk = in.Lk
	switch {
	case err != nil:
		return r.status(err)
	case other == nil:
		out.Lk.Typ = syscall.F_UNLCK
		return fuse.OK
	}
	out.Lk = fuse.FileLock{Start: other.from, End: other.to, Typ: syscall.F_RDLCK, Pid: other.pid}
	if other.mode == lockAlone {
		out.Lk.Typ = syscall.F_WRLCK
	}
	return fuse.OK
}

// lockOf reads what the kernel asks for.
func (r *raw) lockOf(in *fuse.LkIn) (lockID, hold, fuse.Status) {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return lockID{}, hold{}, fuse.EBADF
	}
	c := hold{h: h, owner: in.Owner, pid: in.Lk.Pid, from: in.Lk.Start, to: in.Lk.End}
	switch in.Lk.Typ {
	case syscall.F_RDLCK:
		c.mode = lockShared
	case syscall.F_WRLCK:
		c.mode = lockAlone
	}
	return lockID{h.file.n.ino, in.LkFlags&fuse.FUSE_LK_FLOCK != 0}, c, fuse.OK
}

// closeLocks takes back the POSIX locks of who closes h: by any close of the
// file, of whichever descriptor. What was written under them is in the bucket
// before.
func (r *raw) closeLocks(cancel <-chan struct{}, in *fuse.FlushIn, h *handle) fuse.Status {
	ino := h.file.n.ino
	if !r.m.lockedBy(ino, in.LockOwner) {
		return fuse.OK
	}
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	return r.status(r.m.unlock(ctx, lockID{ino: ino}, hold{h: h, owner: in.LockOwner, to: lockEnd}))
}
