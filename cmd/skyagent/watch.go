package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/syncer"
	"github.com/skyagent/skyagent/watcher"
)

// sourceFlags are the flags of watch and sync.
type sourceFlags struct {
	targetFlags
	once            bool
	delete          bool
	allowMassDelete bool
	takeover        bool
	task            string // a task file
	hosts           hostFlags
}

func (f *sourceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "storage `NAME` (default: the source's base name)")
	flags.StringVar(&f.store, "store", "", "where a named storage lives: file, s3, r2 or gcs (default file)")
	flags.StringVar(&f.to, "to", "", "sync straight to this bucket and prefix, a `URL`, instead of --name and --store")
	flags.StringVarP(&f.task, "file", "f", "", "take storages and sources from a SkyPilot `TASK.yaml`")
	flags.BoolVar(&f.delete, "delete", true, "propagate deletions of what this source put there")
	flags.BoolVar(&f.allowMassDelete, "allow-mass-delete", false, "let a guarded mass deletion through, once")
	f.hosts.register(flags)
	flags.BoolVar(&f.takeover, "takeover", false, "become the storage's source in place of an agent that is gone")
}

func (p *program) watchCommand() *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use:   "watch SRC... | -f TASK.yaml",
		Short: "Keep a storage in step with a directory",
		Long: `Scan a directory, bring its storage in step, announce it, and keep watching.
Ctrl-C finishes what is under way and leaves; a second one leaves at once.
Several sources appear in the storage each under its own name.
With -f all storages of a SkyPilot task are made and kept in step, and its file
mounts without a bucket are on every --host, by rsync over ssh: first all, then
what changes. What a host has of its own is not deleted.`,
		Args: f.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			pairs, plain, err := p.pairs(cmd.Context(), args, f)
			if err != nil {
				return err
			}
			if f.once {
				return p.sync(cmd.Context(), pairs, plain, f)
			}
			return p.watch(cmd.Context(), pairs, plain, f)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "one pass, then exit (the same as sync)")
	return cmd
}

// watch keeps storages, and plain mounts on hosts, in step with their sources, in
// one process.
func (p *program) watch(ctx context.Context, pairs []pair, plain []hosts.Mount, f sourceFlags) error {
	if len(pairs)+len(plain) == 0 {
		return nil
	}
	a, err := p.startAgent(ctx)
	if err != nil {
		return err
	}
	if err := a.embedBus(); err != nil {
		a.end()
		return err
	}
	var parts []*part
	for _, pr := range pairs {
		pt, err := a.open(ctx, pr.target, p.uploadsDir(pr.target, pr.tree))
		if err != nil {
			a.end()
			return err
		}
		parts = append(parts, pt)
	}
	var loops []loop
	for i, pt := range parts {
		loops = append(loops, pt.watchSource(ctx, pairs[i].tree, f))
	}
	if len(plain) > 0 {
		loops = append(loops, a.watchForHosts(plain, f))
	}
	return a.run(ctx, loops...)
}

// watchSource returns the loop that keeps the part's storage in step with tree.
func (pt *part) watchSource(ctx context.Context, tree manifest.Tree, f sourceFlags) loop {
	p, t := pt.p, pt.target
	publisher := bus.NewPublisher(pt.conn, pt.key, t.token(), pt.log)
	publisher.Published = pt.set.Bus().Published
	pt.service("publisher", publisher.Run)
	w := watcher.NewGroup(tree, func() watcher.Options { return watcher.Options{Log: pt.log, Observer: pt.set.Watch()} })
	pt.service("watcher", w.Run)

	opts := p.sourceOptions(pt.store, pt.key, t, tree, f)
	opts.Announcer = publisher
	firstPass, passed := context.WithCancel(ctx)
	var source *syncer.Source
	var books *ledger
	opts.Committed = func(c syncer.Committed) {
		pt.set.Committed(len(c.Changes), c.Took)
		p.sayCommitted(pt, c, source.Status().State)
	}
	opts.Ready = func() {
		passed()
		if err := books.note(ctx, source.Status()); err != nil {
			pt.log.Warn("state not recorded", "err", err)
		}
		pt.setReady()
		p.sayReady(source.Status(), pt, tree.String())
		pt.service("uploads", func(ctx context.Context) error {
			p.abortUploads(ctx, pt.store, source.Status())
			return nil
		})
	}
	source = syncer.NewSource(opts)
	pt.undo = append(pt.undo, pt.set.AddSource(t.token(), func() metrics.Source { return sourceMetrics(source.Status()) }))
	pt.oblige(nil)
	pt.report(pt.presence(pt.key.ID(), "watch", "", tree.String()), func(r *agentRecord) { describeSource(r, source.Status(), pt.conn.Up()) })
	drawn := pt.showProgress(firstPass, "syncing", source.Progress)
	return loop{
		part: pt,
		run: func(ctx context.Context) error {
			var err error
			if books, err = p.enter(ctx, t, pt.store); err != nil {
				return err
			}
			pt.service("registry", func(ctx context.Context) error { return books.keep(ctx, source.Status) })
			return source.Watch(ctx, w)
		},
		flush: publisher.Flush,
		after: func(err error) {
			passed()
			drawn()
			books.end(source.Status(), err)
			if err == nil {
				p.ui.say("left at generation %d", source.Status().Pos.Generation)
			}
		},
	}
}

// A generationLine is what watch --json prints for every commit.
type generationLine struct {
	Storage       string  `json:"storage,omitempty"` // where several are watched
	Generation    uint64  `json:"generation"`
	Changes       int     `json:"changes"`
	UploadedBytes int64   `json:"uploaded_bytes"`
	Seconds       float64 `json:"seconds"`
}

func (p *program) sayCommitted(pt *part, c syncer.Committed, state syncer.State) {
	var name, prefix string
	if pt.isOneOfSeveral() {
		name, prefix = pt.target.name, pt.target.name+": "
	}
	if state != syncer.StateStarting {
		p.ui.say("%sgeneration %d: %s, %s uploaded in %s", prefix, c.Pos.Generation,
			plural(len(c.Changes), "change"), bytesOf(c.UploadedBytes), round(c.Took))
	}
	p.ui.record(generationLine{name, c.Pos.Generation, len(c.Changes), c.UploadedBytes, c.Took.Seconds()})
}

// A readyLine is what watch --json prints once it is live.
type readyLine struct {
	Ready      bool   `json:"ready"`
	Storage    string `json:"storage"`
	Source     string `json:"source"`
	Path       string `json:"path"`
	Generation uint64 `json:"generation"`
	Files      int    `json:"files"`
	Bytes      int64  `json:"bytes"`
	Skipped    int    `json:"skipped"`
	Metrics    string `json:"metrics,omitempty"`
}

func (p *program) sayReady(st syncer.SourceStatus, pt *part, root string) {
	p.warnLeft(st)
	p.ui.say("watching %s → %s: %s, %s (generation %d)", root, pt.target.name,
		plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation)
	p.ui.record(readyLine{true, pt.target.name, p.flags.source, root, st.Pos.Generation, st.Files, st.Bytes, len(st.Skipped), pt.metricsURL})
}

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
