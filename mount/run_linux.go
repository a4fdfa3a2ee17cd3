package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// leave is how long unmount waits for what has not reached the bucket.
const leave = 30 * time.Second

// Run mounts the storage at Options.Dir and serves it until ctx ends or it is
// unmounted from outside. What was changed is brought to the bucket first, as
// far as that is done within half a minute; the rest is in the journal. ready
// is called when the tree is there and the kernel may ask.
func (m *FS) Run(ctx context.Context, ready func()) error {
	defer m.shut()
	if err := m.prepare(); err != nil {
		return err
	}
	if err := clearDead(m.opt.Dir); err != nil {
		return err
	}
	if mountedAt(m.opt.Dir) {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, ErrInUse)
	}
	if err := m.load(ctx); err != nil {
		return err
	}
	m.early.release(m.hear)
	m.resume()
	server, err := m.mount()
	if err != nil {
		return err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve()
	}()
	if err := server.WaitMount(); err != nil {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, err)
	}
	tuneReadahead(m.opt.Dir)
	services, stop := context.WithCancel(m.ctx)
	defer stop()
	m.group.Go(func() { m.kernel.run(services, fuseNotifier{server}, func(n int) { m.count.told.Add(int64(n)) }) })
	m.group.Go(func() { m.follow(services) })
	var replaying sync.WaitGroup
	if m.opt.Inotify {
		m.replay.begin()
		replaying.Go(func() { m.echoes(services) })
	}
	m.group.Go(func() { m.keepNotes(m.ctx) })
	m.setReady()
	ready()
	select {
	case <-served:
	case <-ctx.Done():
	}
	stop()
	replaying.Wait() // it keeps the mount busy
	return m.end(server, served)
}

func (m *FS) setReady() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = true
}

// end brings what was changed to the bucket and unmounts.
func (m *FS) end(server *fuse.Server, served <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), leave)
	defer cancel()
	flushed := m.Flush(ctx)
	err := server.Unmount()
	if err != nil {
		err = fmt.Errorf("unmount %s: %w", m.opt.Dir, err)
		_ = unix.Unmount(m.opt.Dir, unix.MNT_FORCE)
		_ = unix.Unmount(m.opt.Dir, unix.MNT_DETACH)
	}
	<-served
	if flushed == nil {
		flushed = m.Flush(ctx) // what the last closes left
	}
	return errors.Join(err, flushed)
}

func (m *FS) mount() (*fuse.Server, error) {
	if err := os.MkdirAll(m.opt.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("mount point: %w", err)
	}
	r := &observed{&raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), m: m}, m.opt.Seen}
	opts := &fuse.MountOptions{
		Name: "skyagent", FsName: m.opt.Name, AllowOther: m.opt.AllowOther,
		Options:       []string{"default_permissions"},
		MaxBackground: 64, MaxWrite: 1 << 20, MaxReadAhead: 1 << 20,
		EnableLocks:          m.opt.Locks != nil,
		EnableSymlinkCaching: true, // another target is another node
		DisableXAttrs:        !m.opt.Xattrs, DisableSplice: true, ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO,
		DirectMount:       os.Geteuid() == 0,
		Logger:            log.New(io.Discard, "", 0),
	}
	if m.opt.ReadOnly && !m.opt.Inotify { // else it is we who refuse
		opts.Options = append(opts.Options, "ro")
		opts.DirectMountFlags = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_RDONLY
	}
	server, err := fuse.NewServer(r, m.opt.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", m.opt.Dir, err)
	}
	return server, nil
}

type fuseNotifier struct{ server *fuse.Server }

func (n fuseNotifier) forgetName(dir uint64, name string) { n.server.EntryNotify(dir, name) }
func (n fuseNotifier) forgetAttr(id uint64)               { n.server.InodeNotify(id, -1, 0) }
func (n fuseNotifier) forgetContent(id uint64)            { n.server.InodeNotify(id, 0, 0) }

// clearDead takes away a mount that a killed process left at dir.
func clearDead(dir string) error {
	var st unix.Statfs_t // unlike a stat, never answered from what the kernel keeps
	err := unix.Statfs(dir, &st)
	if !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		return nil
	}
	if err = unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		err = fusermountAway(dir, err)
	}
	if err != nil {
		return fmt.Errorf("dead mount at %s: %w", dir, err)
	}
	return nil
}
