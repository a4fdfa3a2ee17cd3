package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
)

func (p *program) storageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "storage",
		Short: "List, make and delete the storages that skyagent made",
		Long: `List, make and delete the storages that skyagent made on this machine. A bucket
that others made is used, and never listed nor deleted.`,
	}
	cmd.AddCommand(p.storageLsCommand(), p.storageCreateCommand(), p.storageInfoCommand(), p.storageDeleteCommand(), p.storageReleaseCommand())
	return cmd
}

// createFlags are the flags of storage create.
type createFlags struct {
	store, region string
	labels        map[string]string
	temporary     bool
}

func (p *program) storageCreateCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a bucket and record it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.createStorage(cmd.Context(), args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.store, "store", "", "where it lives: file, s3, r2 or gcs (default file)")
	cmd.Flags().StringVar(&f.region, "region", "", "`REGION` of the bucket, for gcs its location")
	cmd.Flags().StringToStringVar(&f.labels, "label", nil, "tag the bucket with `KEY=VALUE`, as often as needed")
	cmd.Flags().BoolVar(&f.temporary, "not-persistent", false, "the bucket goes with its last watch")
	return cmd
}

// A storageLine is what storage create and storage info print with --json, and
// storage ls for each storage.
type storageLine struct {
	Name       string `json:"name"`
	Created    string `json:"created"`
	Store      string `json:"store"`
	Command    string `json:"command"`
	Status     string `json:"status"`
	URL        string `json:"url"`
	Persistent bool   `json:"persistent"`
	*storageState
}

func (p *program) createStorage(ctx context.Context, name string, f createFlags) error {
	t, err := targetFlags{name: name, store: f.store}.resolve(p.places, name)
	if err != nil {
		return err
	}
	t.persistent, t.region = !f.temporary, f.region
	if t.region != "" && regions[t.store] == "" {
		return usageHint(fmt.Errorf("store %s has no regions to choose from", t.store), "leave out --region")
	}
	if _, ours, err := p.recorded(ctx, name); err != nil || ours {
		if err == nil {
			err = withHint(fmt.Errorf("storage %s is there already", name), "skyagent storage info %s tells of it", name)
		}
		return err
	}
	if err := checkNewName(t); err != nil {
		return err
	}
	store, err := p.openStore(ctx, t, "", nil)
	if err != nil {
		return err
	}
	use, err := p.claim(ctx, t, store)
	switch {
	case err != nil:
		return err
	case use == storage.Theirs:
		return withHint(fmt.Errorf("bucket %s is there already, and skyagent did not make it", t.location.URL()),
			"use it by its URL, or choose another name")
	}
	if err := p.note(func(reg *registry.Registry) error { return reg.SetState(ctx, name, registry.Ready) }); err != nil {
		return err
	}
	if len(f.labels) > 0 {
		labels := p.configuredLabels(t) // tags are set as a whole
		maps.Copy(labels, f.labels)
		if err := label(ctx, store, t, labels); err != nil {
			return err
		}
	}
	rec, _, err := p.recorded(ctx, name)
	p.ui.record(lineOf(rec, nil))
	return err
}

// regions are the parameters of URLs that say where a bucket is made.
var regions = map[storage.Store]string{storage.S3: "region", storage.GCS: "location"}

// inRegion returns t with its region in the URL. That is for making the bucket
// only: whoever opens it finds it wherever it is.
func (t target) inRegion() target {
	if param := regions[t.store]; param != "" && t.region != "" {
		t.location.Params = maps.Clone(t.location.Params)
		if t.location.Params == nil {
			t.location.Params = make(map[string][]string)
		}
		t.location.Params.Set(param, t.region)
	}
	return t
}

// label tags a new bucket.
func label(ctx context.Context, store objstore.Store, t target, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	tags, ok := objstore.As[interface {
		LabelBucket(ctx context.Context, labels map[string]string) error
	}](store)
	if !ok {
		return withHint(fmt.Errorf("bucket %s was made without labels: store %s has none", t.name, t.store), "leave out --label")
	}
	if err := tags.LabelBucket(ctx, labels); err != nil {
		return fmt.Errorf("bucket %s was made, but not labelled: %w", t.name, err)
	}
	return nil
}

func (p *program) storageInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info NAME",
		Short: "Tell what is known of a storage",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rec, ours, err := p.recorded(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !ours {
				return p.notRecorded(cmd.Context(), args[0])
			}
			p.sayInfo(p.settled([]registry.Record{rec})[0], p.stateOf(cmd.Context(), rec))
			return nil
		},
	}
}

func (p *program) notRecorded(ctx context.Context, name string) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	hint := "skyagent made none on this machine yet"
	if len(records) > 0 {
		var names []string
		for _, rec := range records {
			names = append(names, rec.Name)
		}
		hint = "there are: " + strings.Join(names, ", ")
	}
	return withHint(fmt.Errorf("no storage %q that skyagent made", name), "%s", hint)
}

func (p *program) sayInfo(rec registry.Record, state *storageState) {
	p.ui.record(lineOf(rec, state))
	p.ui.say("%s  %s  %s", rec.Name, rec.State, rec.URL)
	p.ui.say("  created %s by %s", rec.Created.Local().Format("2006-01-02 15:04:05"), rec.Command)
	if !rec.Persistent {
		p.ui.say("  not persistent: the bucket goes with its last watch, or by skyagent storage release %s", rec.Name)
	}
	if state.Error != "" {
		p.ui.say("  %s", state.Error)
		return
	}
	p.ui.say("  generation %d, %s, %s", state.Generation, plural(state.Files, "file"), bytesOf(state.Bytes))
	for _, w := range state.Workers {
		p.ui.say("  %s %s on %s: %s, lag %d", strings.ToLower(w.Mode), w.Path, w.Host, w.State, w.Lag)
	}
}

// settled returns records as they are: what a watch noted that was killed since
// is not what goes on now.
func (p *program) settled(records []registry.Record) []registry.Record {
	watched := make(map[string]bool)
	for _, r := range localAgents(p.places.run) {
		if !r.IsWorker() {
			watched[r.Storage] = true
		}
	}
	records = slices.Clone(records)
	for i, rec := range records {
		if watched[rec.URL] {
			continue
		}
		switch rec.State {
		case registry.Syncing:
			records[i].State = registry.Ready
		case registry.Uploading:
			records[i].State = registry.UploadFailed
		}
	}
	return records
}

// A storageState is what the bucket and the bus say of a storage.
type storageState struct {
	Generation uint64         `json:"generation"`
	Files      int            `json:"files"`
	Bytes      int64          `json:"bytes"`
	Workers    []workerStatus `json:"workers"`
	Lag        uint64         `json:"lag"` // of the worker that is farthest behind
	Error      string         `json:"error,omitempty"`
}

// stateOf asks the bucket and the bus.
func (p *program) stateOf(ctx context.Context, rec registry.Record) *storageState {
	state := &storageState{Workers: []workerStatus{}}
	if err := p.ask(ctx, rec, state); err != nil {
		state.Error = oneLine(wordsFor(err))
	}
	return state
}

func lineOf(rec registry.Record, state *storageState) storageLine {
	return storageLine{Name: rec.Name, Created: rec.Created.UTC().Format("2006-01-02T15:04:05.000Z"), Store: string(rec.Store), Command: rec.Command,
		Status: string(rec.State), URL: rec.URL, Persistent: rec.Persistent, storageState: state}
}
