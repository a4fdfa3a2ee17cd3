package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
	"github.com/skyagent/skyagent/syncer"
)

const (
	deleteAtOnce  = 4           // storages
	deleteBatch   = 1000        // keys a request
	deleteBatches = 8           // requests at a time, a storage
	deleteTries   = 3           // while others write
	leavePatience = time.Minute // for watches, replicas and mounts to end
	leaveLook     = 50 * time.Millisecond
)

type deleteFlags struct{ all, yes bool }

func (p *program) storageDeleteCommand() *cobra.Command {
	var f deleteFlags
	cmd := &cobra.Command{
		Use:   "delete NAME...|GLOB|--all",
		Short: "Delete storages, with their buckets and all that is in them",
		Long: `Delete storages that skyagent made: the bucket, all that is in it, and the
record. Watches, replicas and mounts of this machine are asked to leave first.
A bucket that others made is never touched. A bucket that was deleted elsewhere
is only forgotten.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return usageHint(errors.New("either name storages or use --all"), "skyagent storage ls lists them; NAME may be a pattern like 'data-*'")
			}
			return p.deleteStorages(cmd.Context(), args, f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "all that storage ls lists")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (p *program) deleteStorages(ctx context.Context, patterns []string, f deleteFlags) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	chosen := records
	if !f.all {
		chosen = p.match(records, patterns)
	}
	if len(chosen) == 0 {
		p.ui.say("No storage(s) to delete.")
		return nil
	}
	if !f.yes {
		if err := p.confirm(ctx, chosen); err != nil {
			return err
		}
	}
	failed := make([]error, len(chosen))
	var group errgroup.Group
	group.SetLimit(deleteAtOnce)
	for i, rec := range chosen {
		group.Go(func() error {
			failed[i] = p.deleteStorage(ctx, rec)
			return nil
		})
	}
	group.Wait()
	return joined(failed)
}

// match returns the records that patterns name, in their order.
func (p *program) match(records []registry.Record, patterns []string) []registry.Record {
	chosen := make(map[string]bool)
	for _, pattern := range patterns {
		found := false
		for _, rec := range records {
			if ok, err := path.Match(pattern, rec.Name); ok && err == nil || pattern == rec.Name {
				chosen[rec.Name], found = true, true
			}
		}
		if !found {
			p.ui.say("Storage %s not found.", pattern)
		}
	}
	return slices.DeleteFunc(slices.Clone(records), func(rec registry.Record) bool { return !chosen[rec.Name] })
}

var errNotConfirmed = errors.New("not confirmed: nothing was deleted")

// confirm shows what is to be deleted and who works with it, and asks.
func (p *program) confirm(ctx context.Context, chosen []registry.Record) error {
	p.ui.print(registry.Table(p.settled(chosen), time.Now()))
	for _, rec := range chosen {
		t, err := targetOf(rec)
		if err != nil {
			return err
		}
		agents, _ := p.agents(ctx, t)
		for _, r := range agents {
			p.ui.say("%s: %s of %s on %s", rec.Name, r.Role, r.Path, r.Host)
		}
	}
	var names []string
	for _, rec := range chosen {
		names = append(names, rec.Name)
	}
	answer, err := p.ui.ask(fmt.Sprintf("Deleting %s: %s. Proceed? [Y/n]: ", plural(len(chosen), "storage"), strings.Join(names, ", ")), p.in)
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case err == nil && slices.Contains([]string{"", "y", "yes"}, strings.ToLower(answer)):
		return nil
	case err == io.EOF:
		return withHint(errNotConfirmed, "answer the question, or use -y")
	}
	return errNotConfirmed
}

// A deletedLine is what storage delete --json prints for every storage.
type deletedLine struct {
	Name    string  `json:"name"`
	Objects int64   `json:"objects"` // deleted
	Absent  bool    `json:"absent"`  // the bucket was deleted elsewhere
	Theirs  bool    `json:"theirs"`  // and made anew by others: it stays
	Seconds float64 `json:"seconds"`
}

// deleteStorage deletes the bucket of a storage that we made, and forgets it.
// From the first step on nobody makes it anew; should a step fail, the next
// storage delete goes on from there.
func (p *program) deleteStorage(ctx context.Context, rec registry.Record) error {
	began := time.Now()
	p.ui.say("Deleting storage object %s...", rec.Name)
	reg, err := p.storages(ctx)
	if err != nil {
		return err
	}
	if err := reg.SetState(ctx, rec.Name, registry.Deleting); err != nil {
		return err
	}
	all := func(agentRecord) bool { return true }
	if err := p.sendAway(ctx, rec.URL, "the storage is being deleted", all); err != nil {
		return fmt.Errorf("storage %s: %w", rec.Name, err)
	}
	t, err := targetOf(rec)
	if err != nil {
		return err
	}
	done, err := p.removeBucket(ctx, t)
	if err != nil {
		return withHint(fmt.Errorf("storage %s: %w", rec.Name, err), "%s", cmpHint(hintFor(err), "run skyagent storage delete again: it goes on from where it was"))
	}
	if err := reg.Remove(ctx, rec.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.sayDeleted(t, done, time.Since(began))
	return nil
}

func cmpHint(hint, otherwise string) string {
	if hint != "" {
		return hint
	}
	return otherwise
}

func (p *program) sayDeleted(t target, done removal, took time.Duration) {
	p.ui.record(deletedLine{t.name, done.deleted, done.absent, done.theirs, took.Seconds()})
	kind := strings.ToUpper(string(t.store))
	switch {
	case done.absent:
		p.ui.say("%s bucket %s may have been deleted externally. Removing from local state.", kind, t.name)
	case done.theirs:
		p.ui.warn("%s bucket %s is not the one that skyagent made (it has no %s): it stays, and is listed no more", kind, t.name, madeKey)
	default:
		p.ui.say("Deleted %s bucket %s.", kind, t.name)
	}
}

// sendAway asks those parts of this machine's agents that work on a storage to
// leave, and waits until they have.
func (p *program) sendAway(ctx context.Context, url, why string, those func(agentRecord) bool) error {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	asked := make(map[string]bool)
	tick := time.NewTicker(leaveLook)
	defer tick.Stop()
	for {
		left := p.partsOf(url, those)
		if len(left) == 0 {
			return nil
		}
		for _, r := range left {
			if r.Control != "" && !asked[r.Control] {
				_, err := r.ask(ctx, controlRequest{Do: doLeave, Why: why})
				asked[r.Control] = err == nil // one that is only beginning, or ending, is asked again
			}
		}
		select {
		case <-ctx.Done():
			return withHint(fmt.Errorf("the %s of %s (process %d) did not leave", left[0].Role, left[0].Path, left[0].PID), "stop it, and try again")
		case <-tick.C:
		}
	}
}

// partsOf returns those parts of this machine's agents that work on a storage.
func (p *program) partsOf(url string, those func(agentRecord) bool) []agentRecord {
	return slices.DeleteFunc(localAgents(p.places.run), func(r agentRecord) bool { return !sameBucket(r.Storage, url) || !those(r) })
}

// sameBucket compares two URLs without their parameters.
func sameBucket(a, b string) bool {
	a, _, _ = strings.Cut(a, "?")
	b, _, _ = strings.Cut(b, "?")
	return a == b
}

func isWatch(r agentRecord) bool { return !r.IsWorker() }

// removal is what became of a bucket.
type removal struct {
	deleted int64 // objects
	absent  bool  // it was not there
	theirs  bool  // others made it, after ours was gone; it stays
}

// removeBucket deletes a bucket of ours with all that is in it.
func (p *program) removeBucket(ctx context.Context, t target) (removal, error) {
	store, err := p.openStore(ctx, t.whole(), "", nil)
	if err != nil {
		return removal{}, err
	}
	if there, err := store.BucketExists(ctx); err != nil || !there {
		return removal{absent: true}, err
	}
	if made, err := isMade(ctx, store); err != nil || !made {
		return removal{theirs: true}, err
	}
	word := p.beginLastWord(ctx, t)
	deleted, err := p.emptyAndDelete(ctx, t, store)
	if err != nil {
		word.give(ctx)
		return removal{}, err
	}
	word.say(ctx)
	if t.store == storage.File {
		removeEmpty(filepath.Dir(filepath.FromSlash(t.location.Bucket)), p.places.buckets)
	}
	return removal{deleted: deleted}, nil
}

// emptyAndDelete deletes all objects, and then the bucket. A watch of another
// machine may still write: then it has the mark again, and is emptied anew.
func (p *program) emptyAndDelete(ctx context.Context, t target, store objstore.Store) (deleted int64, err error) {
	for range deleteTries {
		var n int64
		n, err = p.emptyBucket(ctx, store)
		deleted += n
		if err == nil {
			err = store.DeleteBucket(ctx)
		}
		switch {
		case errors.Is(err, objstore.ErrNoBucket): // somebody else was faster
			return deleted, nil
		case !errors.Is(err, objstore.ErrNotEmpty):
			return deleted, err
		}
		err = errors.Join(err, p.markMade(ctx, t))
	}
	return deleted, err
}

// emptyBucket deletes all objects, and draws how far it is.
func (p *program) emptyBucket(ctx context.Context, store objstore.Store) (int64, error) {
	var n atomic.Int64
	drawing, drawn := context.WithCancel(ctx)
	wait := p.showProgress(drawing, "deleting", func() syncer.Progress { return syncer.Progress{Files: n.Load() + 1, DoneFiles: n.Load()} })
	err := deleteAll(ctx, store, &n)
	drawn()
	wait()
	if err == nil {
		err = store.Delete(ctx, madeKey) // last: until then the bucket is known for ours
	}
	return n.Load(), err
}

// removeEmpty removes the empty directories from dir up to, and without, above:
// what a storage below a prefix of a file store leaves.
func removeEmpty(dir, above string) {
	for dir != above && strings.HasPrefix(dir, above) && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

// deleteAll deletes every object but the mark that the bucket is ours, and
// counts them in n.
func deleteAll(ctx context.Context, store objstore.Store, n *atomic.Int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deleteBatches)
	remove := func(keys []string) {
		group.Go(func() error {
			err := store.Delete(ctx, keys...)
			if err == nil {
				n.Add(int64(len(keys)))
			}
			return err
		})
	}
	var keys []string
	var failed error
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			failed = err
			break
		}
		if info.Key == madeKey {
			continue
		}
		if keys = append(keys, info.Key); len(keys) == deleteBatch {
			remove(keys)
			keys = nil
		}
	}
	if len(keys) > 0 && failed == nil {
		remove(keys)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return failed
}

func (p *program) storageReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release NAME",
		Short: "End the watches of a storage; one that is not persistent is deleted",
		Long: `Say that the task that used a storage is done. Its watches on this machine
finish and leave. The bucket of a storage with persistent: false is deleted
then, unless something was not uploaded.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.release(cmd.Context(), args[0]) },
	}
}

// release ends the watches of a storage and, when it is not to stay, the storage.
func (p *program) release(ctx context.Context, name string) error {
	rec, ours, err := p.recorded(ctx, name)
	if err != nil {
		return err
	}
	if !ours {
		return p.notRecorded(ctx, name)
	}
	if err := p.sendAway(ctx, rec.URL, "the storage is released", isWatch); err != nil {
		return fmt.Errorf("storage %s: %w", name, err)
	}
	if rec, ours, err = p.recorded(ctx, name); err != nil || !ours {
		return err
	}
	if rec.Persistent {
		p.ui.say("released %s: it is persistent, its bucket stays", name)
		return nil
	}
	return p.dispose(ctx, rec)
}

// dispose deletes a storage that is not to stay, unless something was not
// uploaded.
func (p *program) dispose(ctx context.Context, rec registry.Record) error {
	switch p.settled([]registry.Record{rec})[0].State {
	case registry.Ready, registry.Init, registry.Deleting:
		return p.deleteStorage(ctx, rec)
	}
	return withHint(fmt.Errorf("storage %s stays although it is not persistent: not all of its source was uploaded", rec.Name),
		"run skyagent sync to upload the rest, or skyagent storage delete %s to give it up", rec.Name)
}

// disposeAfter ends the storage of a watch that ended by its own, if it is not
// to stay and nobody else watches it.
func (p *program) disposeAfter(books *ledger) {
	if books == nil {
		return
	}
	ctx := context.Background() // the watch's own has ended
	rec, ours, err := p.recorded(ctx, books.name)
	if err == nil && ours && !rec.Persistent && len(p.partsOf(rec.URL, isWatch)) == 0 {
		err = p.dispose(ctx, rec)
	}
	if err != nil {
		p.partly.Store(true)
		p.ui.warn("%s", oneLine(err.Error()))
		p.ui.hint(err)
	}
}
