package mounter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A Kind names a mounter.
type Kind string

// The kinds, by the names that configuration has.
const (
	Rclone       Kind = "rclone"
	GeeseFS      Kind = "geesefs"
	GCSFuse      Kind = "gcsfuse"
	MountpointS3 Kind = "mountpoint-s3"
	Exec         Kind = "exec" // any mount, refreshed by a shell command
)

// ErrNotMounted is a refresh of a mount that is not there (yet).
var ErrNotMounted = errors.New("not mounted")

// A Config says what is mounted where, and how.
type Config struct {
	Kind     Kind
	Location objstore.Location // of the bucket; not needed by exec
	Dir      string            // the mount point
	// State is a directory that only this user can enter: sockets and caches
	// are kept there. It must be the same after a restart.
	State string

	Program string   // "" is the mounter's usual name, found in PATH
	Args    []string // more arguments for the mounter
	// Env is more environment for the mounter. Credentials for R2 must be here,
	// as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: those of the agent's own
	// environment are for another store.
	Env []string
	// Remote is where an rclone that somebody else started listens for its
	// remote control: unix:///PATH, HOST:PORT or http://USER:PASSWORD@HOST:PORT.
	// Its --attr-timeout is how much longer the kernel may show the past. "" is
	// the one that this package starts.
	Remote string
	// Command, for exec, is the shell command that refreshes. It gets the paths
	// on standard input, one a line, and the mount point as its directory.
	Command string

	// Setxattr sets an attribute of a file; nil is the system call. Tests look
	// at what geesefs is told.
	Setxattr func(path, name string, value []byte) error
	Log      *slog.Logger // nil discards
}

// A Mount is one mount point of somebody else's. Refresh may be called by many
// goroutines, beside Run. A mount that hangs can hold it longer than its
// context, where it makes system calls on the mount.
type Mount struct {
	cfg    Config
	driver driver
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	mounted bool
	ready   chan struct{} // closed when it was mounted for the first time
}

// A driver is what differs from one mounter to another.
type driver interface {
	// command returns the program's usual name, its arguments and environment.
	command() (name string, args, env []string)
	// filesystem returns what the mount table calls it.
	filesystem() string
	// prepare is called before the mounter is started.
	prepare() error
	refresh(ctx context.Context, paths []manifest.Path) error
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Mount, error) {
	abs, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find mount point %s: %w", cfg.Dir, err)
	}
	cfg.Dir = abs
	if cfg.Setxattr == nil {
		cfg.Setxattr = setxattr
	}
	m := &Mount{cfg: cfg, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), ready: make(chan struct{})}
	if m.driver, err = newDriver(cfg); err != nil {
		return nil, fmt.Errorf("mounter %s: %w", cfg.Kind, err)
	}
	return m, nil
}

func newDriver(cfg Config) (driver, error) {
	if err := checkR2(cfg); err != nil {
		return nil, err
	}
	switch cfg.Kind {
	case Rclone:
		return newRclone(cfg)
	case GeeseFS:
		return newGeeseFS(cfg)
	case GCSFuse:
		return newGCSFuse(cfg)
	case MountpointS3:
		return newMountpoint(cfg)
	case Exec:
		return newExec(cfg)
	}
	return nil, fmt.Errorf("not one of %s, %s, %s, %s and %s", Rclone, GeeseFS, GCSFuse, MountpointS3, Exec)
}

// Ready is closed when the mount was there for the first time.
func (m *Mount) Ready() <-chan struct{} { return m.ready }

// Mounted reports whether the mount is there, as far as Run knows.
func (m *Mount) Mounted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mounted
}

func (m *Mount) setMounted(mounted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mounted = mounted
	select {
	case <-m.ready:
	default:
		if mounted {
			close(m.ready)
		}
	}
}

// Refresh tells the mounter that paths changed, came or went. The error is
// ErrNotMounted where Run has not mounted, errors.ErrUnsupported where the
// mounter cannot be told.
func (m *Mount) Refresh(ctx context.Context, paths []manifest.Path) error {
	if len(paths) == 0 {
		return nil
	}
	err := ErrNotMounted
	if m.Mounted() {
		err = m.driver.refresh(ctx, paths)
	}
	if err != nil {
		return fmt.Errorf("refresh %d paths of the %s mount %s: %w", len(paths), m.cfg.Kind, m.cfg.Dir, err)
	}
	return nil
}
