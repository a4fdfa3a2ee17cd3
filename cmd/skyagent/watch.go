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
	pt, err := p.startOn(ctx, t, p.uploadsDir(t, root))
	if err != nil {
		return err
	}
	if err := pt.embedBus(); err != nil {
		pt.agent.end()
		return err
	}
	return pt.agent.run(ctx, pt.watchSource(ctx, root, f))
}

// watchSource returns the loop that keeps the part's storage in step with root.
func (pt *part) watchSource(ctx context.Context, root string, f sourceFlags) loop {
	p, t := pt.p, pt.target
	publisher := bus.NewPublisher(pt.conn, pt.key, t.token(), pt.log)
	publisher.Published = pt.set.Bus().Published
	pt.service("publisher", publisher.Run)
	w := watcher.New(watcher.Options{Root: root, Log: pt.log, Observer: pt.set.Watch()})
	pt.service("watcher", w.Run)

	opts := p.sourceOptions(pt.store, pt.key, t, root, f)
	opts.Announcer = publisher
	firstPass, passed := context.WithCancel(ctx)
	var source *syncer.Source
	opts.Committed = func(c syncer.Committed) {
		pt.set.Committed(len(c.Changes), c.Took)
		p.sayCommitted(c, source.Status().State)
	}
	opts.Ready = func() {
		passed()
		pt.setReady()
		p.sayReady(source.Status(), pt, root)
		pt.service("uploads", func(ctx context.Context) error {
			p.abortUploads(ctx, pt.store, source.Status())
			return nil
		})
	}
	source = syncer.NewSource(opts)
	pt.set.AddSource(t.token(), func() metrics.Source { return sourceMetrics(source.Status()) })
	pt.report(pt.presence(pt.key.ID(), "watch", "", root), func(r *agentRecord) { describeSource(r, source.Status(), pt.conn.Up()) })
	drawn := p.showProgress(firstPass, "syncing", source.Progress)
	return loop{
		part: pt,
		run: func(ctx context.Context) error {
			if err := t.ensureBucket(ctx, pt.store); err != nil {
				return err
			}
			return source.Watch(ctx, w)
		},
		flush: publisher.Flush,
		after: func(err error) {
			passed()
			drawn()
			if err == nil {
				p.ui.say("left at generation %d", source.Status().Pos.Generation)
			}
		},
	}
}

// A generationLine is what watch --json prints for every commit.
type generationLine struct {
	Generation    uint64  `json:"generation"`
	Changes       int     `json:"changes"`
	UploadedBytes int64   `json:"uploaded_bytes"`
	Seconds       float64 `json:"seconds"`
}

func (p *program) sayCommitted(c syncer.Committed, state syncer.State) {
	if state != syncer.StateStarting {
		p.ui.say("generation %d: %s, %s uploaded in %s", c.Pos.Generation,
			plural(len(c.Changes), "change"), bytesOf(c.UploadedBytes), round(c.Took))
	}
	p.ui.record(generationLine{c.Pos.Generation, len(c.Changes), c.UploadedBytes, c.Took.Seconds()})
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
