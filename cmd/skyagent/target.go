package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/open"
	"github.com/skyagent/skyagent/storage"
)

// A target is a storage that a command works on.
type target struct {
	name     string // for people and machine output
	location objstore.Location
	create   bool // a URL's bucket is ours to make, and nobody records it

	// Of a named storage, whose bucket is made and recorded when it is not there.
	store      storage.Store  // "" for a URL
	mount      *storage.Mount // the file mount that asks for it; nil for a command line's
	persistent bool           // false: the bucket goes with its last watch
	region     string         // where the bucket is made; "" leaves it to the store
	transfers  int            // at a time, where a task says so; 0 means as --transfers
}

// token is the storage's name on the bus. A file store's path differs from
// machine to machine, its last element does not.
func (t target) token() string {
	if t.location.Scheme == "file" {
		return bus.Token(filepath.Base(t.location.Bucket))
	}
	return bus.Token(t.location.Name())
}

// stateName names the state that an agent keeps for this storage's source and
// directory dir.
func (t target) stateName(source, dir string) string {
	id := manifest.Sum([]byte(t.location.String() + "\x00" + source + "\x00" + dir))
	return t.token() + "-" + id.String()[:16]
}

// targetFlags say where a source goes to.
type targetFlags struct {
	name, store, to string
}

// resolve returns the storage of the source at root.
func (f targetFlags) resolve(p places, root string) (target, error) {
	if f.to != "" {
		if f.name != "" || f.store != "" {
			return target{}, usageHint(errors.New("--to names the whole storage by itself"), "leave out --name and --store")
		}
		loc, err := parseLocation(f.to)
		if err != nil {
			return target{}, err
		}
		return target{name: loc.URL(), location: loc, create: loc.Scheme == "file"}, nil
	}
	name := f.name
	if name == "" {
		name = filepath.Base(root)
	}
	if err := checkName(name); err != nil {
		return target{}, err
	}
	if f.store == "" || f.store == "file" {
		return target{name: name, location: fileLocation(p, name), store: storage.File, persistent: true}, nil
	}
	scheme, ok := stores[f.store]
	if !ok {
		return target{}, usageHint(fmt.Errorf("no store %q", f.store), "--store is one of "+strings.Join(storeNames(), ", "))
	}
	loc, err := parseLocation(scheme + "://" + name)
	if err != nil {
		return target{}, err
	}
	return target{name: name, location: loc, store: storage.Store(f.store), persistent: true}, nil
}

// stores are the values of --store for stores whose buckets have a URL, and
// its scheme.
var stores = map[string]string{"s3": "s3", "r2": "r2", "gcs": "gs"}

func storeNames() []string {
	return append([]string{"file"}, slices.Sorted(maps.Keys(stores))...)
}

// parseLocation reads a URL that a person wrote.
func parseLocation(s string) (objstore.Location, error) {
	loc, err := objstore.ParseLocation(s)
	if err == nil && !slices.Contains(open.Schemes, loc.Scheme) {
		err = fmt.Errorf("bucket URL %q: %s:// is not supported yet; what is: %s://", s, loc.Scheme, strings.Join(open.Schemes, "://, "))
	}
	if err != nil {
		return loc, usageHint(err, "write the storage as file:///PATH, s3://BUCKET[/PREFIX], r2://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX]")
	}
	return loc, nil
}

// named returns the storage that a person named by a URL or a name.
func (p *program) named(ctx context.Context, name string) (target, error) {
	if strings.Contains(name, "://") {
		loc, err := parseLocation(name)
		if err != nil {
			return target{}, err
		}
		return target{name: loc.URL(), location: loc}, nil
	}
	if checkName(name) != nil {
		return target{}, usageHint(fmt.Errorf("%q is not a storage: neither a name nor a URL", name),
			"the storage comes first, by its name or as file:///PATH, s3://BUCKET[/PREFIX], r2://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX]")
	}
	rec, ours, err := p.recorded(ctx, name)
	if ours {
		return targetOf(rec)
	}
	if err != nil {
		return target{}, err
	}
	t := target{name: name, location: fileLocation(p.places, name)}
	if _, err := os.Stat(t.location.Bucket); errors.Is(err, fs.ErrNotExist) {
		return target{}, withHint(fmt.Errorf("no storage %q on this machine", name), "%s", p.knownStorages(ctx))
	}
	return t, nil
}

func (p *program) knownStorages(ctx context.Context) string {
	names, err := p.storageNames(ctx)
	if err != nil || len(names) == 0 {
		return "start skyagent watch first, or name the storage by its URL"
	}
	return "there are: " + strings.Join(names, ", ") + "; or name the storage by its URL"
}

// storageNames returns the names that stand for a storage on this machine: of
// the registry, and of the data directory.
func (p *program) storageNames(ctx context.Context) ([]string, error) {
	known := make(map[string]bool)
	entries, err := os.ReadDir(p.places.buckets)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		known[e.Name()] = true
	}
	records, err := p.records(ctx)
	for _, rec := range records {
		known[rec.Name] = true
	}
	return slices.Sorted(maps.Keys(known)), err
}

func fileLocation(p places, name string) objstore.Location {
	return objstore.Location{Scheme: "file", Bucket: filepath.ToSlash(filepath.Join(p.buckets, name))}
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\`) {
		return usageHint(fmt.Errorf("%q cannot be a storage's name", name), "give it a name with --name")
	}
	return nil
}

// ensureBucket makes the bucket when it is ours to make, and says clearly when
// it is not there.
func (t target) ensureBucket(ctx context.Context, store objstore.Store) error {
	if !t.create {
		return nil
	}
	if err := store.CreateBucket(ctx); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// sourceRoot returns the real path of the directory that a person named.
func sourceRoot(arg string) (string, error) {
	abs, err := filepath.Abs(arg)
	if err != nil {
		return "", fmt.Errorf("source %s: %w", arg, err)
	}
	root, err := filepath.EvalSymlinks(abs) // a link to a directory is resolved once
	if err != nil {
		return "", fmt.Errorf("source %s: %w", arg, bare(err))
	}
	fi, err := os.Stat(root)
	if err != nil {
		return "", fmt.Errorf("source %s: %w", arg, bare(err))
	}
	if !fi.IsDir() {
		return "", withHint(fmt.Errorf("source %s is a file, not a directory", arg), "name the directory that holds it")
	}
	return root, nil
}

// bare drops operations and paths from an error whose line names them already.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
