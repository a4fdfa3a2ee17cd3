package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
	"github.com/skyagent/skyagent/syncer"
)

// ledgerTime is how often a watch looks into the registry.
const ledgerTime = time.Second

// storages opens this machine's registry, once for all who ask.
func (p *program) storages(ctx context.Context) (*registry.Registry, error) {
	p.regMu.Lock()
	defer p.regMu.Unlock()
	if p.reg != nil {
		return p.reg, nil
	}
	var err error
	p.reg, err = registry.Open(ctx, p.places.registry())
	return p.reg, err
}

// closeStorages ends the use of the registry.
func (p *program) closeStorages() {
	if p.reg != nil {
		p.reg.Close()
	}
}

// recorded returns the record of a storage that we made, if we did. A machine
// without a registry gets none by that.
func (p *program) recorded(ctx context.Context, name string) (rec registry.Record, ours bool, err error) {
	if _, err := os.Stat(p.places.registry()); errors.Is(err, fs.ErrNotExist) {
		return rec, false, nil
	}
	reg, err := p.storages(ctx)
	if err != nil {
		return rec, false, err
	}
	rec, err = reg.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, false, nil
	}
	return rec, err == nil, err
}

// records returns all storages that we made, the oldest first.
func (p *program) records(ctx context.Context) ([]registry.Record, error) {
	if _, err := os.Stat(p.places.registry()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	reg, err := p.storages(ctx)
	if err != nil {
		return nil, err
	}
	return reg.List(ctx)
}

// targetOf returns the storage that rec tells of.
func targetOf(rec registry.Record) (target, error) {
	loc, err := objstore.ParseLocation(rec.URL)
	return target{name: rec.Name, location: loc, store: rec.Store, persistent: rec.Persistent}, err
}

// secret is what may stand before the host of a URL on the command line.
var secret = regexp.MustCompile(`://[^/@\s]+@`)

// commandLine returns the running command for the registry, without secrets.
func (p *program) commandLine() string {
	return secret.ReplaceAllString("skyagent "+strings.Join(p.args, " "), "://***@")
}

// claim makes the bucket of a named storage when it is to be made, and records
// what is ours. What others made is used as it is.
func (p *program) claim(ctx context.Context, t target, store objstore.Store) (storage.Use, error) {
	if t.store == "" {
		return storage.Theirs, t.ensureBucket(ctx, store)
	}
	use, rec, err := p.look(ctx, t, store)
	switch {
	case err != nil:
	case use == storage.Make:
		use, err = p.makeBucket(ctx, t, store, rec.Name != "")
	case use == storage.Ours && rec.State == registry.Init:
		err = p.markMade(ctx, t) // should the last run have been killed before it did
	}
	if err != nil || use == storage.Theirs || rec.Command == p.commandLine() && rec.Persistent == t.persistent {
		return use, err
	}
	return use, p.note(func(reg *registry.Registry) error {
		return reg.Use(ctx, t.name, p.commandLine(), t.persistent, time.Now())
	})
}

// look finds out how the bucket of a named storage may be used, and what is
// recorded of it: the zero Record when it is not ours. It changes nothing.
func (p *program) look(ctx context.Context, t target, store objstore.Store) (use storage.Use, rec registry.Record, err error) {
	if rec, _, err = p.recorded(ctx, t.name); err != nil {
		return "", rec, err
	}
	if rec.State == registry.Deleting {
		return "", rec, beingDeleted(t.name)
	}
	exists, err := store.BucketExists(ctx)
	denied := t.mount != nil && errors.Is(err, fs.ErrPermission)
	if err != nil && !denied {
		return "", rec, err
	}
	use, err = t.judge(storage.Bucket{Exists: exists, Denied: denied, Made: rec.Store})
	return use, rec, err
}

// judge says how the bucket may be used. A command line may name a bucket that
// others made, to upload into it.
func (t target) judge(b storage.Bucket) (storage.Use, error) {
	if t.mount != nil {
		return t.mount.Judge(b)
	}
	switch {
	case b.Made != "" && b.Made != t.store:
		return "", madeElsewhere(t, b.Made)
	case !b.Exists:
		return storage.Make, nil
	case b.Made != "":
		return storage.Ours, nil
	}
	return storage.Theirs, nil
}

// makeBucket makes the bucket. It is recorded before: one that is made and then
// forgotten would be nobody's to delete.
func (p *program) makeBucket(ctx context.Context, t target, store objstore.Store, recorded bool) (storage.Use, error) {
	if !recorded {
		if err := checkNewName(t); err != nil {
			return "", err
		}
		now := time.Now()
		if err := p.note(func(reg *registry.Registry) error {
			return reg.Add(ctx, registry.Record{Name: t.name, Store: t.store, URL: t.location.String(), Created: now, Used: now,
				Command: p.commandLine(), State: registry.Init, Persistent: t.persistent})
		}); err != nil {
			return "", err
		}
	}
	var err error
	if t.region != "" {
		store, err = p.openStore(ctx, t.inRegion(), "", nil)
	}
	if err == nil {
		err = store.CreateBucket(ctx)
	}
	if err == nil {
		p.ui.say("created %s bucket %s", strings.ToUpper(string(t.store)), t.name)
		if err := label(ctx, store, t, p.configuredLabels(t)); err != nil {
			p.ui.warn("labels of SkyPilot's configuration: %s", oneLine(err.Error()))
		}
		return storage.Make, p.markMade(ctx, t)
	}
	theirs := errors.Is(err, fs.ErrExist) // somebody else was faster
	if theirs {
		err = nil
	}
	if !recorded {
		err = errors.Join(err, p.note(func(reg *registry.Registry) error { return reg.Remove(ctx, t.name) }))
	}
	return storage.Theirs, err
}

// configuredLabels returns the tags that SkyPilot would give the bucket. One
// without is as good as one that has them.
func (p *program) configuredLabels(t target) map[string]string {
	labels := map[string]string{}
	home, err := os.UserHomeDir()
	if err != nil {
		return labels // nor is there a configuration
	}
	configured, err := storage.Labels(t.store, os.LookupEnv, home)
	if err != nil {
		p.ui.warn("labels of SkyPilot's configuration: %s", oneLine(err.Error()))
	}
	maps.Copy(labels, configured)
	return labels
}

func checkNewName(t target) error {
	if t.store == storage.File {
		return nil // checkName has looked at it
	}
	if err := storage.CheckNewName(t.store, t.name); err != nil {
		return usageHint(err, "choose another name with --name")
	}
	return nil
}

// note does something in the registry.
func (p *program) note(do func(*registry.Registry) error) error {
	reg, err := p.storages(context.Background())
	if err != nil {
		return err
	}
	return do(reg)
}

func beingDeleted(name string) error {
	return withHint(fmt.Errorf("storage %s: %w", name, registry.ErrDeleting),
		"skyagent storage delete %s ends what was begun; then it can be made anew", name)
}

// A ledger writes into the registry how a storage of ours fares. That of others'
// storages is nil, and writes nothing.
type ledger struct {
	p    *program
	name string

	mu    sync.Mutex // guards what follows
	first bool       // the first upload is under way
	last  registry.State
}

// enter claims a storage and returns its ledger.
func (p *program) enter(ctx context.Context, t target, store objstore.Store) (*ledger, error) {
	use, err := p.claim(ctx, t, store)
	if err != nil || use == storage.Theirs {
		return nil, err
	}
	rec, _, err := p.recorded(ctx, t.name)
	if err != nil {
		return nil, err
	}
	l := &ledger{p: p, name: t.name, last: rec.State}
	l.first = rec.State == registry.Init || rec.State == registry.Uploading || rec.State == registry.UploadFailed
	if !l.first {
		return l, nil // a pass that changes nothing writes nothing
	}
	return l, l.note(ctx, syncer.SourceStatus{State: syncer.StateStarting})
}

// keep notes the state that look returns whenever it changes, until ctx ends.
// It ends with an error when the storage is being deleted.
func (l *ledger) keep(ctx context.Context, look func() syncer.SourceStatus) error {
	if l == nil {
		return nil
	}
	tick := time.NewTicker(ledgerTime)
	defer tick.Stop()
	for {
		err := l.note(ctx, look())
		if err == nil {
			err = l.check(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// note notes how the work on the storage goes.
func (l *ledger) note(ctx context.Context, st syncer.SourceStatus) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set(ctx, l.state(st))
}

// end notes how the work on the storage ended.
func (l *ledger) end(st syncer.SourceStatus, failed error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	to := registry.Ready
	var guarded *syncer.GuardedError
	switch {
	case errors.As(failed, &guarded), st.State == syncer.StateGuarded:
		to = registry.Guarded
	case l.first && (failed != nil || len(st.Failed) > 0 || st.State == syncer.StateStarting):
		to = registry.UploadFailed
	case failed != nil, unsent(st), st.State == syncer.StateDegraded, st.Dirty > 0:
		to = registry.Degraded
	}
	if err := l.set(context.Background(), to); err != nil && !errors.Is(err, registry.ErrDeleting) {
		l.p.ui.warn("state not recorded: %v", err)
	}
}

// unsent reports whether the source has content that is not in the bucket.
func unsent(st syncer.SourceStatus) bool {
	return len(st.Failed) > 0 || slices.ContainsFunc(st.Skipped, func(k manifest.Skipped) bool {
		return k.Why == manifest.SkipUnreadable || k.Why == manifest.SkipName
	})
}

// state is called with mu held.
func (l *ledger) state(st syncer.SourceStatus) registry.State {
	switch st.State {
	case syncer.StateStarting:
		if l.first {
			return registry.Uploading
		}
	case syncer.StateDegraded:
		return registry.Degraded
	case syncer.StateGuarded:
		return registry.Guarded
	default:
		l.first = false
	}
	return registry.Syncing
}

// set is called with mu held.
func (l *ledger) set(ctx context.Context, to registry.State) error {
	if to == l.last {
		return nil
	}
	err := l.p.note(func(reg *registry.Registry) error { return reg.SetState(ctx, l.name, to) })
	switch {
	case errors.Is(err, registry.ErrDeleting), errors.Is(err, fs.ErrNotExist):
		return beingDeleted(l.name)
	case err == nil:
		l.last = to
	}
	return err
}

// check finds out whether the storage is being deleted, or was.
func (l *ledger) check(ctx context.Context) error {
	rec, ours, err := l.p.recorded(ctx, l.name)
	if err == nil && (!ours || rec.State == registry.Deleting) {
		return beingDeleted(l.name)
	}
	return err
}

func (p places) registry() string { return filepath.Join(p.state, "storages.db") }
