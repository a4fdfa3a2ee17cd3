package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/mounter"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

var mounterKinds = []string{string(mounter.Rclone), string(mounter.GeeseFS), string(mounter.GCSFuse), string(mounter.MountpointS3), string(mounter.Exec)}

// mounterFlags say who mounts, if skyagent does not.
type mounterFlags struct{ kind, exec, args string }

func (f *mounterFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.kind, "mounter", "", "let `PROGRAM` mount, and refresh there what changes: "+strings.Join(mounterKinds, ", "))
	flags.StringVar(&f.exec, "mounter-exec", "", "with --mounter exec: shell `CMD` that refreshes, changed paths on its standard input")
	flags.StringVar(&f.args, "mounter-args", "", "more `ARGS` for the mounter, separated by spaces")
}

// ownFlags are the flags that only skyagent's own file system has.
var ownFlags = []string{"read-only", "allow-other", "allow-non-empty", "write-back", "inotify", "uid", "gid", "umask", "cache-dir", "cache-size", "timeout", "reconcile"}

func (f mounterFlags) check(flags *pflag.FlagSet) error {
	isExec := f.kind == string(mounter.Exec)
	switch {
	case f.kind == "" && f.args+f.exec != "":
		return usageHint(errors.New("--mounter-args and --mounter-exec are for another mounter"), "name it with --mounter")
	case f.kind == "":
		return nil
	case !slices.Contains(mounterKinds, f.kind):
		return usageHint(fmt.Errorf("no mounter %q", f.kind), "--mounter is one of "+strings.Join(mounterKinds, ", "))
	case isExec != (f.exec != ""):
		return usageHint(errors.New("--mounter exec and --mounter-exec CMD go together"), "the command refreshes a mount that is there already")
	}
	for _, name := range ownFlags {
		if flags.Changed(name) {
			return usageHint(fmt.Errorf("--%s is for skyagent's own file system", name), "give the mounter's own flags with --mounter-args")
		}
	}
	return nil
}

// mountByOther returns the loop that lets another program mount, and tells it of
// what changes.
func (pt *part) mountByOther(dir string, f mounterFlags) (loop, error) {
	p, t := pt.p, pt.target
	m, err := p.newMounter(t, dir, f)
	if err != nil {
		return loop{}, err
	}
	began := time.Now()
	r := newRefresher(m, pt.store, pt.log)
	pt.oblige(otherMount{m})
	pt.report(pt.presence(mountID(dir), "mount", "MOUNT", dir), func(rec *agentRecord) { r.describe(rec, p.flags.source) })
	return loop{part: pt, run: func(ctx context.Context) error {
		if err := r.begin(ctx); err != nil {
			return err
		}
		feed := bus.NewFeed(pt.conn, t.token(), pt.verifier(), pt.log)
		pt.service("mount feed", func(ctx context.Context) error { return ended(ctx, feed.Run(ctx, r.hear)) })
		pt.service("refresh", r.run)
		pt.service("mounted", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-m.Ready():
				pt.setReady()
				p.sayMountedBy(f.kind, pt, dir, time.Since(began))
			}
			return nil
		})
		err := m.Run(ctx)
		if errors.Is(err, exec.ErrNotFound) {
			err = withHint(err, "install %s, or mount it without --mounter", f.kind)
		}
		return err
	}}, nil
}

func (p *program) newMounter(t target, dir string, f mounterFlags) (*mounter.Mount, error) {
	m, err := mounter.New(mounter.Config{
		Kind: mounter.Kind(f.kind), Location: t.location, Dir: dir, State: filepath.Join(p.places.state, "mounter"),
		Args: strings.Fields(f.args), Env: mounterEnv(t.location), Command: f.exec, Log: p.logger(),
	})
	if err != nil {
		return nil, withHint(err, "mount it without --mounter, or say what is missing in the environment")
	}
	return m, nil
}

// mounterEnv gives a mounter of R2 the credentials that are meant for R2. All
// others find the store's own in the environment.
func mounterEnv(at objstore.Location) []string {
	id, secret := os.Getenv("R2_ACCESS_KEY_ID"), os.Getenv("R2_SECRET_ACCESS_KEY")
	if at.Scheme != "r2" || id == "" || secret == "" {
		return nil
	}
	return []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret}
}

func (p *program) sayMountedBy(kind string, pt *part, dir string, took time.Duration) {
	p.ui.say("mounted %s at %s by %s in %s", pt.target.name, dir, kind, round(took))
	p.ui.record(readyLine{Ready: true, Storage: pt.target.name, Source: p.flags.source, Path: dir, Metrics: pt.metricsURL})
}

// An otherMount is somebody else's mount that can be asked.
type otherMount struct{ *mounter.Mount }

// Refresh implements obliging.
func (m otherMount) Refresh(ctx context.Context, path string) error {
	if path == "" {
		return errors.New("another program's mount is not refreshed as a whole: name a path below the mount point")
	}
	p, err := manifest.ParsePath(path)
	if err != nil {
		return err
	}
	return m.Mount.Refresh(ctx, []manifest.Path{p})
}

// Flush implements obliging.
func (m otherMount) Flush(context.Context) error {
	return errors.New("another program's mount tells nobody what it has not uploaded")
}

// Left implements obliging.
func (m otherMount) Left() int { return 0 }

const (
	// waitingPaths bounds what waits for a mounter that cannot be refreshed.
	waitingPaths = 1 << 16
	refreshPause = time.Second // after a refresh that failed
)

// A refresher tells a mounter what others changed. While one refresh is under
// way, further changes wait and are told of together.
type refresher struct {
	mount *mounter.Mount
	store objstore.Store
	notes *manifest.Notes
	log   *slog.Logger
	wake  chan struct{} // holds a token while anything waits
	noted manifest.NotesPos

	mu     sync.Mutex                   // guards what follows
	logs   map[string]manifest.Position // of sources, up to where changes were taken
	paths  map[manifest.Path]struct{}   // to be refreshed
	look   bool                         // something was missed: read logs and notes
	reason string                       // why the last refresh failed
}

func newRefresher(m *mounter.Mount, store objstore.Store, log *slog.Logger) *refresher {
	return &refresher{mount: m, store: store, notes: syncer.OpenNotes(store), log: log, wake: make(chan struct{}, 1),
		logs: map[string]manifest.Position{}, paths: map[manifest.Path]struct{}{}}
}

// begin finds out what is there already: what changed before, no mounter that
// starts now has cached. It comes before run.
func (r *refresher) begin(ctx context.Context) error {
	r.noted = manifest.NotesPos{Newest: time.Now().UnixNano()}
	sources, err := syncer.Sources(ctx, r.store)
	if err != nil {
		return err
	}
	for _, source := range sources {
		_, pos, err := syncer.OpenLog(r.store, source).Load(ctx)
		if err != nil && !errors.Is(err, manifest.ErrNoLog) {
			return fmt.Errorf("log of source %s: %w", source, err)
		}
		r.logs[source] = pos
	}
	return nil
}

// hear is for bus.Feed.Run; it does not block.
func (r *refresher) hear(h bus.Heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case h.Commit != nil:
		r.commit(*h.Commit)
	case h.Writes != nil:
		for _, w := range h.Writes.Changes {
			r.add(w.Path)
		}
	}
	r.look = r.look || h.Lost
	r.signal()
}

// commit takes what e changed if that is all since the last one, and has the
// log read otherwise. It is called with mu held.
func (r *refresher) commit(e manifest.Event) {
	pos := r.logs[e.Source]
	same := e.Epoch == pos.Epoch
	switch {
	case same && e.Generation <= pos.Generation:
	case !e.Complete(), e.Prev != pos.Generation, !same && pos.Generation > 0:
		r.look = true
	default:
		r.logs[e.Source] = manifest.Position{Epoch: e.Epoch, Generation: e.Generation, Commit: e.Commit}
		for _, c := range e.Changes {
			r.add(c.Path)
		}
	}
}

// add is called with mu held. What does not fit is seen when the mounter's own
// caches expire.
func (r *refresher) add(p manifest.Path) {
	if len(r.paths) < waitingPaths {
		r.paths[p] = struct{}{}
	}
}

// signal is called with mu held.
func (r *refresher) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run refreshes what was heard of, until ctx ends.
func (r *refresher) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		err := r.refresh(ctx)
		r.setReason(err)
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(refreshPause):
		}
	}
}

// refresh tells the mounter what waits. On an error it waits again.
func (r *refresher) refresh(ctx context.Context) error {
	paths, look := r.take()
	if look {
		missed, err := r.missed(ctx)
		paths = append(paths, missed...)
		if err != nil {
			r.putBack(paths, true)
			return err
		}
	}
	err := r.mount.Refresh(ctx, paths)
	switch {
	case errors.Is(err, mounter.ErrNotMounted): // it will start with empty caches
		return nil
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		r.putBack(paths, false)
	}
	return err
}

func (r *refresher) take() (paths []manifest.Path, look bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	paths, look = slices.Sorted(maps.Keys(r.paths)), r.look
	r.paths, r.look = map[manifest.Path]struct{}{}, false
	return paths, look
}

func (r *refresher) putBack(paths []manifest.Path, look bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range paths {
		r.add(p)
	}
	r.look = r.look || look
	r.signal()
}

// setReason keeps why it does not work, and says so once.
func (r *refresher) setReason(err error) {
	reason := ""
	if err != nil {
		reason = oneLine(err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if reason != "" && reason != r.reason {
		r.log.Warn("mount not refreshed", "err", err)
	}
	r.reason = reason
}

// missed returns what the logs and the notes say that was not heard.
func (r *refresher) missed(ctx context.Context) ([]manifest.Path, error) {
	sources, err := syncer.Sources(ctx, r.store)
	if err != nil {
		return nil, err
	}
	var paths []manifest.Path
	for _, source := range sources {
		committed, err := r.missedCommits(ctx, source)
		paths = append(paths, committed...)
		if err != nil {
			return paths, fmt.Errorf("log of source %s: %w", source, err)
		}
	}
	notes, pos, err := r.notes.Since(ctx, r.noted)
	r.noted = pos
	for _, n := range notes {
		for _, w := range n.Changes {
			paths = append(paths, w.Path)
		}
	}
	return paths, err
}

func (r *refresher) missedCommits(ctx context.Context, source string) ([]manifest.Path, error) {
	r.mu.Lock()
	pos := r.logs[source]
	r.mu.Unlock()
	commits, head, err := syncer.OpenLog(r.store, source).Since(ctx, pos)
	if errors.Is(err, manifest.ErrGap) {
		r.log.Warn("log no longer says what changed; the mounter shows it when its caches expire", "source", source)
		_, head, err = syncer.OpenLog(r.store, source).Load(ctx)
	}
	if err != nil && !errors.Is(err, manifest.ErrNoLog) {
		return nil, err
	}
	var paths []manifest.Path
	for _, c := range commits {
		for _, change := range c.Changes {
			paths = append(paths, change.Path)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.logs[source] == pos { // else events were faster
		r.logs[source] = head
	}
	return paths, nil
}

// describe writes how it goes into a record.
func (r *refresher) describe(record *agentRecord, source string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pos := r.logs[source]
	record.Epoch, record.Generation = pos.Epoch, pos.Generation
	record.State, record.Reason = string(syncer.StateReady), r.reason
	started := false
	select {
	case <-r.mount.Ready():
		started = true
	default:
	}
	switch {
	case !started:
		record.State = string(syncer.StateStarting)
	case !r.mount.Mounted():
		record.State, record.Reason = string(syncer.StateDegraded), "the mounter is away; it is started again"
	case r.reason != "":
		record.State = string(syncer.StateDegraded)
	case !record.Bus:
		record.State, record.Reason = string(syncer.StateDegraded), "the bus is away; changes are seen when the mounter's caches expire"
	}
}
