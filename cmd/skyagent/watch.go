package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
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
}

func (f *sourceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "storage `NAME` (default: the source's base name)")
	flags.StringVar(&f.store, "store", "", "where a named storage lives: file, s3, r2 or gcs (default file)")
	flags.StringVar(&f.to, "to", "", "sync straight to this bucket and prefix, a `URL`, instead of --name and --store")
	flags.BoolVar(&f.delete, "delete", true, "propagate deletions of what this source put there")
	flags.BoolVar(&f.allowMassDelete, "allow-mass-delete", false, "let a guarded mass deletion through, once")
	flags.BoolVar(&f.takeover, "takeover", false, "become the storage's source in place of an agent that is gone")
}

func (p *program) watchCommand() *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use:   "watch SRC",
		Short: "Keep a storage in step with a directory",
		Long: `Scan a directory, bring its storage in step, announce it, and keep watching.
Ctrl-C finishes what is under way and leaves; a second one leaves at once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.once {
				return p.sync(cmd.Context(), args[0], f)
			}
			return p.watch(cmd.Context(), args[0], f)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "one pass, then exit (the same as sync)")
	return cmd
}

func (p *program) watch(ctx context.Context, src string, f sourceFlags) error {
	root, err := sourceRoot(src)
	if err != nil {
		return err
	}
	t, err := f.resolve(p.places, root)
	if err != nil {
		return err
	}
	a, err := p.startAgent(ctx, t, p.uploadsDir(t, root))
	if err != nil {
		return err
	}
	if err := a.embedBus(); err != nil {
		return err
	}
	publisher := bus.NewPublisher(a.conn, a.key, t.token(), a.log)
	publisher.Published = a.set.Bus().Published
	a.service("publisher", publisher.Run)
	w := watcher.New(watcher.Options{Root: root, Log: a.log, Observer: a.set.Watch()})
	a.service("watcher", w.Run)

	opts := p.sourceOptions(a.store, a.key, t, root, f)
	opts.Announcer = publisher
	firstPass, passed := context.WithCancel(ctx)
	var source *syncer.Source
	opts.Committed = func(c syncer.Committed) {
		a.set.Committed(len(c.Changes), c.Took)
		if source.Status().State != syncer.StateStarting {
			p.ui.say("generation %d: %s, %s uploaded in %s", c.Pos.Generation,
				plural(len(c.Changes), "change"), bytesOf(c.UploadedBytes), round(c.Took))
		}
		p.ui.record(generationLine{c.Pos.Generation, len(c.Changes), c.UploadedBytes, c.Took.Seconds()})
	}
	opts.Ready = func() {
		passed()
		a.setReady()
		p.sayReady(source.Status(), a, root)
		a.service("uploads", func(ctx context.Context) error {
			p.abortUploads(ctx, a.store, source.Status())
			return nil
		})
	}
	source = syncer.NewSource(opts)
	a.set.AddSource(t.token(), func() metrics.Source { return sourceMetrics(source.Status()) })
	a.report(a.presence(a.key.ID(), "watch", "", root), func(r *agentRecord) { describeSource(r, source.Status(), a.conn.Up()) })
	drawn := p.showProgress(firstPass, "syncing", source.Progress)
	err = a.run(ctx, func(ctx context.Context) error {
		if err := t.ensureBucket(ctx, a.store); err != nil {
			return err
		}
		return source.Watch(ctx, w)
	}, publisher.Flush)
	passed()
	drawn()
	if err == nil {
		p.ui.say("left at generation %d", source.Status().Pos.Generation)
	}
	return err
}

// A generationLine is what watch --json prints for every commit.
type generationLine struct {
	Generation    uint64  `json:"generation"`
	Changes       int     `json:"changes"`
	UploadedBytes int64   `json:"uploaded_bytes"`
	Seconds       float64 `json:"seconds"`
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

func (p *program) sayReady(st syncer.SourceStatus, a *agent, root string) {
	p.warnLeft(st)
	p.ui.say("watching %s → %s: %s, %s (generation %d)", root, a.target.name,
		plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation)
	p.ui.record(readyLine{true, a.target.name, p.flags.source, root, st.Pos.Generation, st.Files, st.Bytes, len(st.Skipped), a.metricsURL})
}

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
