package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Times at the end of a mount.
const (
	leave = 30 * time.Second // for what has not reached the bucket
	idle  = 10 * time.Second // for programs to leave the mount
	last  = time.Second      // for the kernel to let go of a mount that was taken away
)

// Run mounts the storage at Options.Dir and serves it until ctx ends or it is
// unmounted from outside. What was changed is brought to the bucket first, as
// far as that is done within half a minute; the rest is in the journal, and the
// error is a LeftError. ready
// is called when the tree is there and the kernel may ask.
func (m *FS) Run(ctx context.Context, ready func()) error {
	defer m.shut()
	if err := m.prepare(); err != nil {
		return err
	}
	if err := clearDead(m.opt.Dir); err != nil {
		return err
	}
	if err := m.point(); err != nil {
		return err
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
	m.group.Go(func() { m.tends(services) })
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
	err := m.unmount(server, served)
	if err == nil {
		m.releaseAll()
	}
	if again := m.Flush(ctx); flushed == nil { // what the last closes left
		flushed = again
	}
	return errors.Join(err, m.leftOver(flushed))
}

// unmount takes the mount away when nobody uses it any more, or when it has
// waited long enough for that: a process that ends leaves no dead mount point.
func (m *FS) unmount(server *fuse.Server, served <-chan struct{}) error {
	err := m.unmountIdle(server, served)
	if err == nil {
		<-served
		return nil
	}
	if unix.Unmount(m.opt.Dir, unix.MNT_FORCE) != nil && unix.Unmount(m.opt.Dir, unix.MNT_DETACH) != nil {
		_ = fusermountAway(m.opt.Dir, nil) // an ordinary user: it goes on for those who have it open
	}
	select {
	case <-served:
	case <-time.After(last):
	}
	return fmt.Errorf("unmount %s: %w", m.opt.Dir, err)
}

// unmountIdle unmounts as soon as nobody uses the mount.
func (m *FS) unmountIdle(server *fuse.Server, served <-chan struct{}) error {
	select {
	case <-served: // somebody else has unmounted it
		return nil
	default:
	}
	var err error
	for wait, end := 50*time.Millisecond, time.Now().Add(idle); time.Now().Before(end); wait = min(2*wait, time.Second) {
		before := err
		if err = server.Unmount(); err == nil {
			return nil
		}
		if before == nil {
			m.log.Warn("mount is in use, waiting for that to end", "dir", m.opt.Dir, "most", idle.String())
		}
		select {
		case <-served:
			return nil
		case <-time.After(wait):
		}
	}
	if strings.Contains(err.Error(), "busy") {
		return ErrBusy
	}
	return err
}

// point makes sure that something can be mounted at the mount point.
func (m *FS) point() error {
	if err := hasDevice("/dev/fuse"); err != nil {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, err)
	}
	if mountedAt(m.opt.Dir) {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, ErrInUse)
	}
	if err := os.MkdirAll(m.opt.Dir, 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrPoint, err)
	}
	names, err := os.ReadDir(m.opt.Dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPoint, err)
	}
	if len(names) > 0 && !m.opt.NonEmpty {
		return fmt.Errorf("mount %s: %w", m.opt.Dir, ErrNotEmpty)
	}
	return nil
}

func (m *FS) mount() (*fuse.Server, error) {
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
