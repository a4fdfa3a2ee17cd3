package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/mount"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

type mountFlags struct {
	readOnly, allowOther, writeBack, inotify bool
	locks, symlinks, xattrs, nonEmpty        bool
	uid, gid                                 uint32
	umask                                    umask
	cacheDir                                 string
	cacheSize                                byteSize
	timeout, reconcile                       time.Duration
	mounter                                  mounterFlags
}

func (p *program) mountCommand() *cobra.Command {
	f := newMountFlags()
	cmd := &cobra.Command{
		Use:   "mount STORAGE DIR",
		Short: "Show a storage as a file system (a MOUNT)",
		Long: `Mount a storage at a directory. A close returns when the file is in the bucket
and announced: whoever opens it then, on any mount on the same bus, reads it.
Two workers that write one version of a file: the second close fails with
ESTALE, and its bytes are kept beside as NAME.skyagent-conflict-TIME.
With --mounter another program mounts; it is told of what skyagent's watches and
mounts change, and what is written through it is announced to nobody.
A storage named flush is mounted by its URL: skyagent mount flush is a command.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return err
			}
			if args[1] == "" {
				return usageHint(errors.New("the mount point has no name"), "name a directory: skyagent mount STORAGE DIR")
			}
			return p.mount(cmd.Context(), args[0], args[1], f)
		},
	}
	cmd.AddCommand(p.flushCommand())
	f.register(cmd.Flags())
	return cmd
}

// newMountFlags returns the flags before anybody set one.
func newMountFlags() mountFlags {
	return mountFlags{uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), cacheSize: 10 << 30}
}

func (f *mountFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&f.readOnly, "read-only", false, "refuse all writes")
	flags.BoolVar(&f.allowOther, "allow-other", false, "let other users in, too")
	flags.BoolVar(&f.nonEmpty, "allow-non-empty", false, "mount over a directory that holds something, which is hidden meanwhile")
	flags.BoolVar(&f.writeBack, "write-back", false, "close returns at once; uploads follow from a journal that survives a crash")
	flags.BoolVar(&f.locks, "locks", false, "flock and POSIX locks hold between workers, too; needs a bus with JetStream")
	flags.BoolVar(&f.symlinks, "symlinks", false, "symlinks can be made and are followed; else they are files that hold their targets")
	flags.BoolVar(&f.xattrs, "xattrs", false, "keep extended attributes (user.*), about 1,000 bytes a file; small writes are slower")
	flags.BoolVar(&f.inotify, "inotify", false, "let programs that watch files by inotify see what other workers change")
	flags.Uint32Var(&f.uid, "uid", f.uid, "`ID` of the user who owns the files (default: yours)")
	flags.Uint32Var(&f.gid, "gid", f.gid, "`ID` of their group (default: yours)")
	for _, own := range []string{"uid", "gid"} {
		flags.Lookup(own).DefValue = "0" // the help says the same to everybody
	}
	flags.Var(&f.umask, "umask", "permission bits that new files do not get, in octal")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "`DIR` of the cache of what was read, shared by all mounts (default: below the state directory)")
	flags.Var(&f.cacheSize, "cache-size", "`SIZE` of that cache at the most: 512M, 10G")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long a program waits for a store that hangs")
	flags.DurationVar(&f.reconcile, "reconcile", 5*time.Minute, "how often the bucket is listed for what strangers wrote")
	f.mounter.register(flags)
}

// check returns what is wrong with the flags by themselves.
func (f *mountFlags) check(flags *pflag.FlagSet) error {
	for name, d := range map[string]time.Duration{"timeout": f.timeout, "reconcile": f.reconcile} {
		if d <= 0 {
			return usageHint(fmt.Errorf("--%s %s is no time to wait", name, d), "give a time above zero: 30s, 5m")
		}
	}
	return f.mounter.check(flags)
}

func (p *program) mount(ctx context.Context, storage, dir string, f mountFlags) error {
	t, err := p.named(ctx, storage)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := apart(t.location, dir); err != nil {
		return err
	}
	if f.mounter.kind != "" { // before anything is asked of the store
		if _, err := p.newMounter(t, dir, f.mounter); err != nil {
			return err
		}
	}
	pt, err := p.startOn(ctx, t, p.mountUploads(t, dir, f))
	if err != nil {
		return err
	}
	l, err := pt.mount(ctx, dir, f)
	if err != nil {
		pt.agent.end()
		return err
	}
	return pt.agent.run(ctx, l)
}

// apart returns an error when a bucket that is a directory and a mount point lie
// in each other: one would show, or hide, the other.
func apart(at objstore.Location, dir string) error {
	if at.Scheme != "file" {
		return nil
	}
	bucket, dir := resolved(filepath.FromSlash(at.Bucket)), resolved(dir)
	if within(dir, bucket) || within(bucket, dir) {
		return usageHint(fmt.Errorf("mount point %s and bucket %s lie in each other", dir, at.URL()), "choose a directory outside the bucket")
	}
	return nil
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// mountUploads is where a mount's unfinished uploads are remembered. Another
// mounter's are its own business.
func (p *program) mountUploads(t target, dir string, f mountFlags) string {
	if f.mounter.kind != "" {
		return ""
	}
	return filepath.Join(p.mountState(t, dir), "uploads")
}

// mount returns the loop that mounts the part's storage at dir, by skyagent or
// by another program.
func (pt *part) mount(ctx context.Context, dir string, f mountFlags) (loop, error) {
	if f.mounter.kind != "" {
		return pt.mountByOther(dir, f.mounter)
	}
	return pt.mountFS(ctx, dir, f)
}

// mountState is where a mount keeps what must survive it.
func (p *program) mountState(t target, dir string) string {
	return filepath.Dir(p.places.index("mounts", t.stateName(p.flags.source, dir)))
}

// mountFS returns the loop that shows the part's storage at dir.
func (pt *part) mountFS(ctx context.Context, dir string, f mountFlags) (loop, error) {
	began := time.Now()
	p, t := pt.p, pt.target
	cache, err := blocks.Open(blocks.Options{Dir: p.cacheDir(f), Store: pt.store, Bucket: t.location.String(),
		MaxBytes: int64(f.cacheSize), Deadline: f.timeout, Log: pt.log})
	if err != nil {
		return loop{}, err
	}
	f.readOnly = f.readOnly || p.flags.anonymous
	seal := ""
	if !f.readOnly {
		if seal, err = syncer.PublishWriter(ctx, pt.store, pt.key.ID(), pt.key.Public()); err != nil {
			cache.Close()
			if errors.Is(err, fs.ErrPermission) {
				err = withHint(err, "mount it with --read-only, or use credentials that may write the bucket")
			}
			return loop{}, err
		}
	}
	m, b := pt.newMount(dir, p.mountState(t, dir), cache, seal, f)
	pt.undo = append(pt.undo, pt.set.AddMount(t.token(), func() metrics.Mount { return mountMetrics(m.Status(), cache.Stats()) }))
	pt.oblige(ownMount{m})
	pt.report(pt.presence(mountID(dir), "mount", "MOUNT", dir), func(r *agentRecord) { describeMount(r, m.Status()) })
	return loop{
		part: pt,
		run: func(ctx context.Context) error {
			err := m.Run(ctx, func() {
				pt.setReady()
				p.sayMounted(m.Status(), pt, dir, time.Since(began))
			})
			if err == nil {
				p.ui.say("unmounted %s", dir)
			}
			return err
		},
		flush: b.Herald.Flush,
		after: func(error) { cache.Close() },
	}, nil
}

// mountID is a mount's name on the bus.
func mountID(dir string) string {
	return bus.Token(hostname() + "-" + manifest.Sum([]byte(dir)).String()[:8])
}

// An ownMount is a file system of skyagent's that can be asked.
type ownMount struct{ *mount.FS }

// Refresh implements obliging.
func (m ownMount) Refresh(ctx context.Context, path string) error {
	if !m.Status().Ready {
		return errors.New("the mount is not ready yet")
	}
	return m.FS.Refresh(ctx, path)
}

// Left implements obliging.
func (m ownMount) Left() int { return m.Status().Pending }

// newMount wires a file system to the bus, where seal marks what it says.
func (pt *part) newMount(dir, state string, cache *blocks.Cache, seal string, f mountFlags) (*mount.FS, mountBus) {
	t, life := pt.target, bus.NewSession()
	b := mountBus{bus.NewFeed(pt.conn, t.token(), pt.verifier(), pt.log), bus.NewHerald(pt.conn, pt.key, t.token(), life, pt.log)}
	b.Feed.Ignore(life)
	b.Herald.Seal = seal
	opt := mount.Options{
		Dir: dir, Store: pt.store, Name: t.location.URL(), Cache: cache, State: state, Writer: pt.key.ID(), Life: life, Bus: b,
		Sources:  func(ctx context.Context) ([]string, error) { return syncer.Sources(ctx, pt.store) },
		Logs:     func(source string) *manifest.Log { return syncer.OpenLog(pt.store, source) },
		Notes:    syncer.OpenNotes(pt.store),
		ReadOnly: f.readOnly, AllowOther: f.allowOther, NonEmpty: f.nonEmpty, WriteBack: f.writeBack, Inotify: f.inotify, Symlinks: f.symlinks, Xattrs: f.xattrs,
		UID: f.uid, GID: f.gid, Umask: uint32(f.umask), Deadline: f.timeout, Reconcile: f.reconcile, Seen: pt.set.MountOperation, Log: pt.log,
	}
	if f.locks {
		locks := bus.NewLocks(pt.conn, t.token(), pt.log)
		opt.Locks = locks
		pt.service("mount locks", func(ctx context.Context) error { return ended(ctx, locks.Run(ctx)) })
	}
	fs := mount.New(opt)
	pt.service("mount feed", func(ctx context.Context) error {
		return ended(ctx, b.Feed.Run(ctx, func(h bus.Heard) { fs.Hear(mount.News(h)) }))
	})
	pt.service("mount herald", func(ctx context.Context) error { return ended(ctx, b.Herald.Run(ctx)) })
	return fs, b
}

// A mountBus is where a mount hears and tells.
type mountBus struct {
	*bus.Feed
	*bus.Herald
}

// ended returns nil when err is only that ctx ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p *program) cacheDir(f mountFlags) string {
	if f.cacheDir != "" {
		return f.cacheDir
	}
	return filepath.Join(p.places.state, "cache")
}

func (p *program) sayMounted(st mount.Status, pt *part, dir string, took time.Duration) {
	p.ui.say("mounted %s at %s: %s, %s, in %s", pt.target.name, dir, plural(st.Files, "file"), bytesOf(st.Bytes), round(took))
	p.ui.record(readyLine{Ready: true, Storage: pt.target.name, Source: p.flags.source, Path: dir,
		Generation: st.Pos.Generation, Files: st.Files, Bytes: st.Bytes, Metrics: pt.metricsURL})
}

func mountMetrics(st mount.Status, c blocks.Stats) metrics.Mount {
	return metrics.Mount{
		Generation: float64(st.Pos.Generation), Degraded: st.Reason != "",
		Files: float64(st.Files), Bytes: float64(st.Bytes), Open: float64(st.Open), Pending: float64(st.Pending), Staged: float64(st.Staged), Trusted: st.Trusted,
		Uploads: float64(st.Uploads), UploadedBytes: float64(st.UploadedBytes), Conflicts: float64(st.Conflicts), Failed: float64(st.Failed),
		Heard: float64(st.Heard), Asked: float64(st.Asked), Invalidations: float64(st.Invalidations), Reconciled: float64(st.Reconciled),
		Hits: float64(c.Hits), Misses: float64(c.Misses),
		DiskBytes: float64(c.FromDisk), MemoryBytes: float64(c.FromMemory), StoreBytes: float64(c.FromStore),
		CacheBytes: float64(c.DiskUse), Evicted: float64(c.Evicted), EvictedBytes: float64(c.EvictedBytes),
		Prefetched: float64(c.Prefetched), PrefetchesWasted: float64(c.Wasted), Corrupt: float64(c.Corrupt),
	}
}

func describeMount(r *agentRecord, st mount.Status) {
	r.State, r.Reason = string(syncer.StateReady), st.Reason
	switch {
	case !st.Ready:
		r.State = string(syncer.StateStarting)
	case st.Reason != "":
		r.State = string(syncer.StateDegraded)
	case !st.Trusted:
		r.State, r.Reason = string(syncer.StateDegraded), "the bus is away; opens ask the store"
	case st.Pending > 0:
		r.State = string(syncer.StateSyncing)
	}
	r.Epoch, r.Generation = st.Pos.Epoch, st.Pos.Generation
	r.Dirty, r.Failed = st.Pending, int(st.Failed)
	r.Left = append(r.Left, st.GivenUp...)
	if st.Conflicts > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%s kept beside", plural(st.Conflicts, "conflicting write")))
	}
}

// leftHint says how what a mount could not bring to the bucket gets there.
func leftHint(left *mount.LeftError) string {
	if len(left.Lost) > 0 {
		return "before the next stop, wait until skyagent mount flush says that all is in the bucket"
	}
	return "it is kept on this machine: mount again at the same directory when the store takes it"
}
