package mount

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/manifest"
)

// echoes replays until ctx ends. It has a thread of its own, which ends with it.
// It holds no lock while it asks the kernel, and what it asks is answered from
// the tree: nobody waits for it, and it waits for no store.
func (m *FS) echoes(ctx context.Context) {
	runtime.LockOSThread()
	m.replay.tid.Store(uint32(unix.Gettid()))
	defer m.replay.tid.Store(0)
	for {
		p, kind, ok := m.replay.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-m.replay.wake:
			}
			continue
		}
		if m.kernel.settled(ctx) != nil {
			return
		}
		if err := m.echo(ctx, p, kind); err != nil && ctx.Err() == nil {
			m.log.Debug("change not shown to watchers", "path", p, "err", err)
		}
	}
}

// echo does one change once more, unless the tree has another state by now.
func (m *FS) echo(ctx context.Context, p manifest.Path, kind echoKind) error {
	m.tree.mu.RLock()
	e := &echo{dir: m.tree.find(p.Dir()), name: p.Base(), kind: kind, n: m.tree.find(p)}
	gone := kind == echoRemoved || kind == echoDirRemoved
	stale := e.dir == nil || e.n != nil && e.n.is(isLink) || (e.n == nil) != gone || e.n != nil && e.n.is(isDir) != (kind == echoDirMade)
	mtime := int64(0)
	if e.n != nil {
		mtime = e.n.mtime
	}
	m.tree.mu.RUnlock()
	if stale {
		return nil // what it is by now comes in its turn; links are not shown
	}
	if gone {
		e.n = m.ghost(e, kind == echoDirRemoved)
	}
	dir, err := m.openDir(p.Dir())
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	m.replay.now.Store(e)
	defer m.replay.now.Store(nil)
	switch kind {
	case echoMade:
		err = unix.EEXIST
		for try := 0; try < 2 && errors.Is(err, unix.EEXIST); try++ {
			err = touch(dir, e.name, unix.O_CREAT|unix.O_EXCL, mtime)
			if errors.Is(err, unix.EEXIST) && try == 0 { // somebody looked already
				m.forget(ctx, e)
			}
		}
		if errors.Is(err, unix.EEXIST) {
			err = touch(dir, e.name, 0, mtime)
		}
	case echoWritten:
		err = touch(dir, e.name, 0, mtime)
	case echoDirMade:
		if err = unix.Mkdirat(dir, e.name, 0o777); errors.Is(err, unix.EEXIST) {
			m.forget(ctx, e)
			err = unix.Mkdirat(dir, e.name, 0o777)
		}
	case echoRemoved:
		err = unix.Unlinkat(dir, e.name, 0)
	case echoDirRemoved:
		err = unix.Unlinkat(dir, e.name, unix.AT_REMOVEDIR)
	}
	if gone { // what the kernel knows now may be wrong already
		m.forget(ctx, e)
	}
	return err
}

// forget has the kernel forget what it knows of e's name, now.
func (m *FS) forget(ctx context.Context, e *echo) {
	m.tree.mu.RLock()
	m.tellName(e.dir, e.name)
	m.tree.mu.RUnlock()
	_ = m.kernel.settled(ctx)
}

// ghost returns a node that is nowhere, to be removed in place of one that is gone.
func (m *FS) ghost(e *echo, dir bool) *node {
	m.tree.mu.Lock()
	defer m.tree.mu.Unlock()
	m.tree.ino++
	n := &node{name: e.name, parent: e.dir, ino: m.tree.ino, flags: detached, perm: 0o644}
	if dir {
		n.flags |= isDir
		n.kids = &kids{}
	}
	return n
}

// openDir opens directory p of the mount, which is not kept open: it would be
// busy. Names come from others, so no symlink is followed, and nothing that was
// mounted over is entered.
func (m *FS) openDir(p manifest.Path) (int, error) {
	root, err := unix.Open(m.opt.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(root, &fs); err != nil {
		return -1, err
	}
	if err := unix.Fstat(root, &st); err != nil {
		return -1, err
	}
	if fs.Type != unix.FUSE_SUPER_MAGIC || st.Ino != rootID {
		return -1, fmt.Errorf("%s is not the mount any more", m.opt.Dir)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV}
	name := string(p)
	if name == "" {
		name = "."
	}
	return unix.Openat2(root, name, &how)
}

// touch opens name in dir for writing and closes it, and says in between that it
// has changed: its size and time are set to what they are.
func touch(dir int, name string, flags int, mtime int64) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0o666)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, st.Size); err != nil {
		return err
	}
	t := syscall.NsecToTimespec(mtime)
	times := []unix.Timespec{{Sec: t.Sec, Nsec: t.Nsec}, {Sec: t.Sec, Nsec: t.Nsec}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times, 0)
}
