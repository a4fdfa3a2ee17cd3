package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// busPatience is how long status waits for a bus that does not answer.
const busPatience = time.Second

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [STORAGE]",
		Short: "Show writers, workers, generation, lag and skipped files",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := p.statusTargets(cmd.Context(), args)
			if err != nil {
				return err
			}
			var failed []error
			for _, t := range targets {
				failed = append(failed, p.status(cmd.Context(), t))
			}
			if len(args) == 0 {
				p.hostStatus()
			}
			return joined(failed)
		},
	}
}

// statusTargets returns the named storage, or all that are known here: those
// of running agents, of the registry and of the data directory.
func (p *program) statusTargets(ctx context.Context, args []string) ([]target, error) {
	if len(args) == 1 {
		t, err := p.named(ctx, args[0])
		return []target{t}, err
	}
	known := make(map[string]target)
	for _, r := range localAgents(p.places.run) {
		if loc, err := objstore.ParseLocation(r.Storage); err == nil {
			known[r.Storage] = target{name: loc.URL(), location: loc}
		}
	}
	names, err := p.storageNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		t, err := p.named(ctx, name)
		if err != nil {
			return nil, err
		}
		known[t.location.String()] = t
	}
	if len(known) == 0 && len(p.hostLines()) == 0 {
		p.ui.say("no storages yet; start one with skyagent watch DIR")
	}
	return slices.SortedFunc(maps.Values(known), func(a, b target) int { return cmp.Compare(a.name, b.name) }), nil
}

// A statusLine is what status --json prints for one storage.
type statusLine struct {
	Storage string         `json:"storage"`
	Bus     bool           `json:"bus"`
	Sources []sourceStatus `json:"sources"`
	Workers []workerStatus `json:"workers"`
}

type sourceStatus struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	PID        int       `json:"pid,omitempty"`
	Path       string    `json:"path,omitempty"`
	Generation uint64    `json:"generation"`
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"`
	Dirty      int       `json:"dirty"`
	Skipped    int       `json:"skipped"`
	Failed     int       `json:"failed"`
	Left       []string  `json:"left,omitempty"`
	Seen       time.Time `json:"seen,omitzero"`
}

type workerStatus struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	Mode       string    `json:"mode"`
	Path       string    `json:"path"`
	Generation uint64    `json:"generation"`
	Lag        uint64    `json:"lag"` // generations behind the log
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"`
	Partial    bool      `json:"partial,omitempty"`
	Left       []string  `json:"left,omitempty"`
	Seen       time.Time `json:"seen,omitzero"`
}

// stateAway is shown for a source that nobody watches now.
const stateAway = "AWAY"

func (p *program) status(ctx context.Context, t target) error {
	store, err := p.openStore(ctx, t, "", nil)
	if err != nil {
		return err
	}
	head, failed := syncer.OpenLog(store, p.flags.source).Head(ctx)
	records, up := p.agents(ctx, t)
	if failed != nil && len(records) == 0 {
		return failed
	}
	line := statusLine{Storage: t.name, Bus: up, Sources: []sourceStatus{}, Workers: []workerStatus{}}
	for _, r := range records {
		if r.IsWorker() {
			line.Workers = append(line.Workers, worker(r, head))
		} else {
			line.Sources = append(line.Sources, source(r))
		}
	}
	if len(line.Sources) == 0 && head > 0 {
		line.Sources = append(line.Sources, p.awaySource(ctx, store, head))
	}
	p.ui.record(line)
	p.sayStatus(line, head)
	return failed
}

func source(r agentRecord) sourceStatus {
	return sourceStatus{
		ID: r.Source, Host: r.Host, PID: r.PID, Path: r.Path, Generation: r.Generation, State: r.State, Reason: r.Reason,
		Dirty: r.Dirty, Skipped: r.Skipped, Failed: r.Failed, Left: r.Left, Seen: r.Seen,
	}
}

func worker(r agentRecord, head uint64) workerStatus {
	w := workerStatus{
		ID: r.ID, Host: r.Host, Mode: r.Mode, Path: r.Path, Generation: r.Generation, State: r.State, Reason: r.Reason,
		Partial: r.Partial, Left: r.Left, Seen: r.Seen,
	}
	if head > r.Generation {
		w.Lag = head - r.Generation
	}
	return w
}

// awaySource describes a source that nobody on the bus or on this machine
// watches; the lease in the bucket says who was the last.
func (p *program) awaySource(ctx context.Context, store objstore.Store, head uint64) sourceStatus {
	s := sourceStatus{ID: p.flags.source, Generation: head, State: stateAway}
	holder, err := syncer.LeaseHolder(ctx, store, p.flags.source)
	if err == nil {
		s.Host, s.PID, s.Path = holder.Host, holder.PID, holder.Root
	}
	return s
}

// agents returns who is on the storage: everybody the bus knows, and those of
// this machine, who say more of themselves.
func (p *program) agents(ctx context.Context, t target) (records []agentRecord, up bool) {
	local := make(map[string]bool)
	for _, r := range localAgents(p.places.run) {
		if r.Storage == t.location.String() {
			records = append(records, r)
			local[r.ID] = true
		}
	}
	members, err := p.members(ctx, t)
	for _, m := range members {
		if !local[m.ID] {
			records = append(records, agentRecord{Presence: m})
		}
	}
	slices.SortFunc(records, func(a, b agentRecord) int { return cmp.Compare(a.ID, b.ID) })
	return records, err == nil
}

func (p *program) members(ctx context.Context, t target) ([]bus.Presence, error) {
	opts, err := p.busOptions()
	if err != nil {
		return nil, err
	}
	conn, err := bus.Connect(opts)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	if err := conn.WaitUp(ctx); err != nil {
		return nil, err
	}
	return conn.Members(ctx, t.token())
}

func (p *program) sayStatus(line statusLine, head uint64) {
	p.ui.say("%s: generation %d%s", line.Storage, head, map[bool]string{false: ", bus away"}[line.Bus])
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, s := range line.Sources {
		fmt.Fprintf(w, "  source\t%s\t%s\t%s\tgeneration %d\t%s\n", s.ID, s.State, s.Host, s.Generation, s.Path)
		sayMore(w, s.Reason, s.Left)
		if s.Dirty+s.Skipped+s.Failed > 0 {
			fmt.Fprintf(w, "  \t%d dirty, %d skipped, %d failed\n", s.Dirty, s.Skipped, s.Failed)
		}
	}
	for _, k := range line.Workers {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\tgeneration %d\t%s\tlag %d\n", strings.ToLower(k.Mode), k.ID, k.State, k.Host, k.Generation, k.Path, k.Lag)
		sayMore(w, k.Reason, k.Left)
	}
	w.Flush()
	if b.Len() > 0 {
		p.ui.say("%s", strings.TrimRight(b.String(), "\n"))
	}
}

func sayMore(w *tabwriter.Writer, reason string, left []string) {
	if reason != "" {
		fmt.Fprintf(w, "  \t%s\n", reason)
	}
	for i, line := range left {
		if i == maxWarnings {
			fmt.Fprintf(w, "  \t… and %d more\n", len(left)-i)
			return
		}
		fmt.Fprintf(w, "  \t%s\n", line)
	}
}
