package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage/registry"
	"github.com/skyagent/skyagent/syncer"
)

// askPatience bounds how long storage ls -v waits for a bucket.
const askPatience = 10 * time.Second

func (p *program) storageLsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the storages that skyagent made; -v asks their buckets and workers",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.listStorages(cmd.Context()) },
	}
}

func (p *program) listStorages(ctx context.Context) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	records = p.settled(records)
	states := make([]*storageState, len(records))
	wide := p.flags.verbose
	p.flags.verbose = false // it asks for columns here, not for a log
	if wide {
		var all sync.WaitGroup
		for i, rec := range records {
			all.Go(func() { states[i] = p.stateOf(ctx, rec) })
		}
		all.Wait()
	}
	list := struct {
		Storages []storageLine `json:"storages"`
	}{Storages: []storageLine{}}
	var more []registry.More
	for i, rec := range records {
		list.Storages = append(list.Storages, lineOf(rec, states[i]))
		if states[i] != nil {
			more = append(more, states[i].columns())
		}
	}
	p.ui.record(list)
	p.ui.print(registry.Wide(records, more, time.Now()))
	return nil
}

// columns are what -v adds to the table.
func (s *storageState) columns() registry.More {
	if s.Error != "" {
		return registry.More{"-", "-", "-", "-"}
	}
	return registry.More{fmt.Sprint(s.Generation), bytesOf(s.Bytes), fmt.Sprint(len(s.Workers)), fmt.Sprint(s.Lag)}
}

// ask fills in what the bucket and the bus say.
func (p *program) ask(ctx context.Context, rec registry.Record, state *storageState) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	t, err := targetOf(rec)
	if err != nil {
		return err
	}
	store, err := p.openStore(ctx, t, "", nil)
	if err != nil {
		return err
	}
	m, pos, err := syncer.OpenLog(store, p.flags.source).Load(ctx)
	switch {
	case errors.Is(err, objstore.ErrNoBucket):
		return fmt.Errorf("bucket %s was deleted elsewhere", t.location.URL())
	case errors.Is(err, manifest.ErrNoLog): // a scratch storage, or a new one
	case err != nil:
		return err
	default:
		state.Generation, state.Files, state.Bytes = pos.Generation, m.Count(), m.Bytes()
	}
	agents, _ := p.agents(ctx, t)
	for _, r := range agents {
		if r.IsWorker() {
			w := worker(r, pos.Generation)
			state.Workers, state.Lag = append(state.Workers, w), max(state.Lag, w.Lag)
		}
	}
	return nil
}
