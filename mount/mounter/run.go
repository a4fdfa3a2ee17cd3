package mounter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	mountDeadline = 30 * time.Second // from the start of a mounter to its mount
	stopDeadline  = 30 * time.Second // from the polite signal to the other one: uploads may be under way
	lookEvery     = 20 * time.Millisecond
	watchEvery    = 2 * time.Second // of a mount that somebody else started
	firstPause    = time.Second     // before a mounter that ended is started again
	longestPause  = time.Minute
)

// Run mounts, and mounts again whenever the mounter ends, until ctx does; then
// it unmounts what it mounted. A mount that is there at the start is used, and
// left there. It returns an error when the first start fails, and when the
// mount point cannot be left.
func (m *Mount) Run(ctx context.Context) error {
	defer m.setMounted(false)
	if m.cfg.Kind == Exec { // what it refreshes need not be a mount
		m.setMounted(true)
		<-ctx.Done()
		return nil
	}
	found, err := m.find()
	if err != nil {
		return err
	}
	if found {
		m.log.Info("mount found", "kind", m.cfg.Kind, "dir", m.cfg.Dir)
		return m.follow(ctx)
	}
	return m.supervise(ctx)
}

// find reports whether somebody mounted already. What a dead mounter left is
// cleared; another file system is an error.
func (m *Mount) find() (bool, error) {
	kind, err := mountedAt(m.cfg.Dir)
	if err != nil || kind == "" {
		return false, err
	}
	if want := m.driver.filesystem(); kind != want {
		return false, fmt.Errorf("mount point %s has a mount of %s, not %s", m.cfg.Dir, kind, want)
	}
	if !dead(m.cfg.Dir) {
		return true, nil
	}
	m.log.Warn("mount point of a dead mounter cleared", "dir", m.cfg.Dir)
	if err := unmount(m.cfg.Dir); err != nil {
		return false, fmt.Errorf("clear the dead mount point %s: %w", m.cfg.Dir, err)
	}
	return false, nil
}

// follow looks now and then whether somebody else's mount is there.
func (m *Mount) follow(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		kind, err := mountedAt(m.cfg.Dir)
		if err != nil {
			return err
		}
		if there := kind != ""; there != m.Mounted() {
			m.setMounted(there)
			m.log.Info("mount of somebody else", "dir", m.cfg.Dir, "mounted", there)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// supervise starts the mounter again and again. Only the first failure to mount
// is the caller's to know.
func (m *Mount) supervise(ctx context.Context) error {
	pause, first := firstPause, true
	for {
		began := time.Now()
		err := m.once(ctx, func() { first = false })
		if ctx.Err() != nil || first {
			return err
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		m.log.Warn("mounter ended, starting it again", "kind", m.cfg.Kind, "dir", m.cfg.Dir, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// once runs the mounter until it or ctx ends, and leaves no mount behind.
func (m *Mount) once(ctx context.Context, mounted func()) error {
	if err := os.MkdirAll(m.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := m.driver.prepare(); err != nil {
		return err
	}
	child, err := m.start()
	if err != nil {
		return err
	}
	if err := m.await(ctx, child); err != nil {
		return errors.Join(err, m.leave(child))
	}
	mounted()
	m.setMounted(true)
	m.log.Info("mounted", "kind", m.cfg.Kind, "dir", m.cfg.Dir)
	select {
	case <-ctx.Done():
		err = nil
	case <-child.done:
		err = child.failure()
	}
	m.setMounted(false)
	return errors.Join(err, m.leave(child))
}

// await waits until the child has mounted. That ctx ended is no error.
func (m *Mount) await(ctx context.Context, child *child) error {
	deadline := time.After(mountDeadline)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		kind, err := mountedAt(m.cfg.Dir)
		if err != nil || kind != "" {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-child.done:
			return child.failure()
		case <-deadline:
			return fmt.Errorf("mount %s: nothing mounted after %v\n%s", m.cfg.Dir, mountDeadline, child.out)
		case <-tick.C:
		}
	}
}

// leave ends the child, which unmounts, and clears what it left behind.
func (m *Mount) leave(child *child) error {
	child.stop()
	kind, err := mountedAt(m.cfg.Dir)
	if err != nil || kind == "" {
		return err
	}
	if err := unmount(m.cfg.Dir); err != nil {
		return fmt.Errorf("unmount %s: %w", m.cfg.Dir, err)
	}
	return nil
}
