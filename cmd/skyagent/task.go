package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
)

// A pair is a storage and the source that it is kept in step with.
type pair struct {
	target target
	tree   manifest.Tree
}

// args checks what the commands that take sources are given.
func (f *sourceFlags) args(cmd *cobra.Command, args []string) error {
	switch {
	case f.task == "" && len(args) == 0:
		return cobra.MinimumNArgs(1)(cmd, args)
	case f.task != "" && len(args) > 0:
		return cobra.NoArgs(cmd, args)
	}
	return nil
}

// pairs returns what a command line or its task file asks to keep in step,
// without what rules ignore, and what goes to hosts without a bucket.
func (p *program) pairs(ctx context.Context, args []string, f sourceFlags) ([]pair, []hosts.Mount, error) {
	pairs, plain, err := p.allPairs(ctx, args, f)
	if !f.noIgnore {
		rules := ignore.New(ignore.Options{Log: p.logger()})
		for i := range pairs {
			pairs[i].tree = pairs[i].tree.Ignoring(rules)
		}
	}
	return pairs, plain, err
}

func (p *program) allPairs(ctx context.Context, args []string, f sourceFlags) ([]pair, []hosts.Mount, error) {
	if err := f.hosts.check(f.task); err != nil {
		return nil, nil, err
	}
	if f.task != "" {
		if f.name+f.store+f.to != "" {
			return nil, nil, usageHint(errors.New("-f TASK.yaml names its storages by itself"), "leave out --name, --store and --to")
		}
		return p.taskPairs(ctx, f.task, len(f.hosts.names) > 0)
	}
	tree, err := f.tree(args)
	if err != nil {
		return nil, nil, err
	}
	t, err := p.resolve(ctx, f.targetFlags, tree)
	return []pair{{t, tree}}, nil, err
}

// resolve returns the storage of a source. One that is recorded is where it
// was made.
func (p *program) resolve(ctx context.Context, f targetFlags, tree manifest.Tree) (target, error) {
	t, err := f.resolve(p.places, tree.String())
	if err != nil || t.store == "" {
		return t, err
	}
	rec, ours, err := p.recorded(ctx, t.name)
	switch {
	case err != nil || !ours:
		return t, err
	case f.store != "" && rec.Store != t.store:
		return t, madeElsewhere(t, rec.Store)
	}
	return targetOf(rec)
}

func madeElsewhere(t target, made storage.Store) error {
	return withHint(fmt.Errorf("storage %s was made in %s, not in %s", t.name, made, t.store), "use --store %s, or another --name", made)
}

// tree returns the source that a command line names: what is in one directory,
// or several directories and files under their own names.
func (f sourceFlags) tree(args []string) (manifest.Tree, error) {
	if len(args) == 1 {
		root, err := sourceRoot(args[0])
		return manifest.OneDir(root), err
	}
	if f.name == "" && f.to == "" {
		return manifest.Tree{}, usageHint(errors.New("several sources have no name in common"), "give the storage a name with --name, or --to")
	}
	var sources []storage.Source
	for _, arg := range args {
		abs, err := filepath.Abs(arg)
		if err != nil {
			return manifest.Tree{}, fmt.Errorf("source %s: %w", arg, err)
		}
		fi, err := os.Lstat(abs)
		if err != nil {
			return manifest.Tree{}, fmt.Errorf("source %s: %w", arg, bare(err))
		}
		if !fi.IsDir() && !fi.Mode().IsRegular() {
			return manifest.Tree{}, withHint(fmt.Errorf("source %s is neither a file nor a directory", arg), "name what it points to")
		}
		sources = append(sources, storage.Source{Path: abs, Dir: fi.IsDir(), At: filepath.Base(abs)})
	}
	for i, s := range sources {
		if slices.ContainsFunc(sources[:i], func(other storage.Source) bool { return other.At == s.At }) {
			return manifest.Tree{}, usageHint(fmt.Errorf("two sources have the name %s", s.At), "rename one, or put them into one directory")
		}
	}
	return treeOf(sources), nil
}

// treeOf returns the tree that sources make.
func treeOf(sources []storage.Source) manifest.Tree {
	var places []manifest.Place
	for _, s := range sources {
		if s.Dir {
			places = append(places, manifest.Place{Dir: s.Path, At: s.At})
		} else {
			places = append(places, manifest.Place{Dir: filepath.Dir(s.Path), At: s.At, Only: true})
		}
	}
	return manifest.TreeOf(places...)
}

// readTask reads a task file. Relative sources start in the working directory.
func (p *program) readTask(ctx context.Context, file string) (*storage.Task, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", file, bare(err))
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, withHint(fmt.Errorf("no home directory: %w", err), "set HOME")
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	records, err := p.records(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, rec := range records {
		known[rec.Name] = true
	}
	task, err := storage.Parse(file, content, storage.Options{
		Env: os.LookupEnv, Home: home, Dir: dir, Buckets: p.places.buckets, Files: storage.Disk{},
		Known:       func(name string) bool { return known[name] },
		Credentials: storage.FindCredentials(os.LookupEnv, home, storage.Disk{}),
	})
	if err != nil {
		return nil, err
	}
	for _, w := range task.Warnings {
		p.ui.warn("%v", w)
		p.ui.hint(w)
	}
	return task, nil
}

// taskPairs makes the buckets of a task that are to be made, looks at those that
// must be there, and returns what is to be kept in step. Nothing is made before
// all of them were judged.
func (p *program) taskPairs(ctx context.Context, file string, hasHosts bool) ([]pair, []hosts.Mount, error) {
	task, err := p.readTask(ctx, file)
	if err != nil {
		return nil, nil, err
	}
	if err := p.oneSourceEach(task); err != nil {
		return nil, nil, err
	}
	var plain []hosts.Mount
	if hasHosts {
		plain = plainMounts(task)
	} else {
		p.warnPlain(task)
	}
	mounts := storageMounts(task)
	var failed []error
	for _, m := range mounts {
		failed = append(failed, p.lookAt(ctx, m))
	}
	if err := joined(failed); err != nil {
		return nil, nil, err
	}
	var pairs []pair
	for _, m := range mounts {
		if m.External {
			continue
		}
		if m.Reason != "" {
			p.ui.say("storage %s: store %s, because %s", m.Name, m.Store, m.Reason)
		}
		if err := p.claimMount(ctx, m); err != nil {
			return nil, nil, err
		}
		if len(m.Sources) > 0 {
			pairs = append(pairs, pair{targetOfMount(m), treeOf(m.Sources)})
		}
	}
	if len(pairs) == 0 && plain == nil {
		p.ui.say("%s has no source to keep in step; its buckets are there", file)
	}
	return pairs, plain, nil
}

// warnPlain names the file mounts that no host gets.
func (p *program) warnPlain(task *storage.Task) {
	for _, m := range task.Mounts {
		if m.Mode == storage.Rsync {
			p.ui.warn("%s:%d: %s is a file mount without a bucket: it goes to every --host, and none is named", m.File, m.Line, m.Path)
		}
	}
}

// storageMounts returns the mounts of a task that have a bucket, each bucket
// once.
func storageMounts(task *storage.Task) []*storage.Mount {
	var mounts []*storage.Mount
	seen := make(map[string]int)
	for i := range task.Mounts {
		m := &task.Mounts[i]
		if m.Mode == storage.Rsync {
			continue
		}
		at := m.Location.String()
		if j, twice := seen[at]; twice {
			if len(mounts[j].Sources) == 0 {
				mounts[j] = m
			}
			continue
		}
		seen[at] = len(mounts)
		mounts = append(mounts, m)
	}
	return mounts
}

// oneSourceEach refuses two sources of one bucket: the deletions of each would
// take what the other uploaded.
func (p *program) oneSourceEach(task *storage.Task) error {
	first := make(map[string]*storage.Mount)
	var problems storage.Problems
	for i := range task.Mounts {
		m := &task.Mounts[i]
		if m.Mode == storage.Rsync || len(m.Sources) == 0 {
			continue
		}
		at := m.Location.String()
		other, twice := first[at]
		if !twice {
			first[at] = m
		} else if !slices.Equal(other.Sources, m.Sources) {
			problems = append(problems, storage.Problem{File: m.File, Line: m.Line, Column: m.Column,
				Message: fmt.Sprintf("storage %s has another source in line %d", m.Name, other.Line), Hint: "list both under source:, in both places"})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func targetOfMount(m *storage.Mount) target {
	t := target{name: m.Name, location: m.Location, mount: m, persistent: m.Persistent}
	if m.External {
		t.name = m.Location.URL()
		return t
	}
	t.store, t.region = m.Store, m.Region
	return t
}

// lookAt finds out whether a mount may use its bucket. It changes nothing.
func (p *program) lookAt(ctx context.Context, m *storage.Mount) error {
	if m.External {
		return p.external(ctx, targetOfMount(m), m)
	}
	t := targetOfMount(m)
	store, err := p.openStore(ctx, t, "", nil)
	if err == nil {
		_, _, err = p.look(ctx, t, store)
	}
	return inFile(m, err)
}

// inFile says where in a task file the mount stands that err is of.
func inFile(m *storage.Mount, err error) error {
	var problem storage.Problem
	if err == nil || errors.As(err, &problem) {
		return err
	}
	return fmt.Errorf("%s:%d:%d: %w", m.File, m.Line, m.Column, err)
}

// claimMount makes the bucket of a mount when it is to be made. One without a
// source is ready by that.
func (p *program) claimMount(ctx context.Context, m *storage.Mount) error {
	t := targetOfMount(m)
	store, err := p.openStore(ctx, t, "", nil)
	if err != nil {
		return inFile(m, err)
	}
	use, err := p.claim(ctx, t, store)
	if err != nil || use == storage.Theirs || len(m.Sources) > 0 {
		return inFile(m, err)
	}
	if rec, _, err := p.recorded(ctx, t.name); err != nil || rec.State != registry.Init {
		return err
	}
	return p.note(func(reg *registry.Registry) error { return reg.SetState(ctx, t.name, registry.Ready) })
}

// external finds out whether a bucket that a URI names is there, and whether
// anything is below its prefix: SkyPilot takes a prefix that is missing for an
// empty directory.
func (p *program) external(ctx context.Context, t target, m *storage.Mount) error {
	whole := t
	whole.location.Prefix = ""
	store, err := p.openStore(ctx, whole, "", nil)
	if err != nil {
		return err
	}
	exists, err := store.BucketExists(ctx)
	if noCredentials(err) {
		whole.location = anonymously(whole.location)
		if store, err = p.openStore(ctx, whole, "", nil); err != nil {
			return err
		}
		exists, err = store.BucketExists(ctx)
	}
	denied := errors.Is(err, fs.ErrPermission)
	if err != nil && !denied {
		return inFile(m, err)
	}
	if _, err := m.Judge(storage.Bucket{Exists: exists, Denied: denied}); err != nil {
		return err
	}
	return nothingAt(ctx, store, m)
}

// noCredentials reports whether err says that there are none for a store.
func noCredentials(err error) bool {
	var noKeys *s3.CredentialsError
	var noADC *gcs.CredentialsError
	return errors.As(err, &noKeys) || errors.As(err, &noADC)
}

// anonymously returns a bucket that is asked without credentials.
func anonymously(at objstore.Location) objstore.Location {
	params := make(url.Values)
	maps.Copy(params, at.Params)
	params.Set("anonymous", "true")
	at.Params = params
	return at
}

// nothingAt is the error that neither an object nor a prefix is where the
// mount's URI points.
func nothingAt(ctx context.Context, store objstore.Store, m *storage.Mount) error {
	prefix := m.Location.Prefix
	if prefix == "" {
		return nil
	}
	if _, err := store.Head(ctx, prefix); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, err := range store.List(ctx, prefix+"/", "") {
		return err
	}
	return storage.Problem{File: m.File, Line: m.Line, Column: m.Column, Hint: "check the URI",
		Message: fmt.Sprintf("there is nothing at %s, neither an object nor a prefix", m.Location.URL())}
}
