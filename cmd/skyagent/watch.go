package main

import (
	"context"
	"errors"
	"sync/atomic"
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
	untilDone       bool
	noIgnore        bool
	hosts           hostFlags
}

func (f *sourceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "storage `NAME` (default: the source's base name)")
	flags.StringVar(&f.store, "store", "", "where a named storage lives: file, s3, r2 or gcs (default file); its bucket is made when it is not there")
	flags.StringVar(&f.to, "to", "", "sync straight to this bucket and prefix, a `URL`, instead of --name and --store")
	flags.StringVarP(&f.task, "file", "f", "", "take storages and sources from a SkyPilot `TASK.yaml`")
	flags.BoolVar(&f.delete, "delete", true, "propagate deletions of what this source put there")
	flags.BoolVar(&f.allowMassDelete, "allow-mass-delete", false, "let a guarded mass deletion through, once")
	flags.BoolVar(&f.noIgnore, "no-ignore", false, "sync also .git and what .skyignore or .gitignore name")
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
What .skyignore names in the source's root, or else git's rules in a work tree,
is left out, and so is .git: skyagent why PATH says which rule it is.
With -f all storages of a SkyPilot task are made and kept in step: those that a
task does not give a store live where credentials are, s3, gcs or r2, else in a
directory. Its file mounts without a bucket are on every --host, by rsync over
ssh: first all, .git too, then what changes. What a host has of its own is not
deleted.`,
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
	cmd.Flags().BoolVar(&f.untilDone, "until-done", false, "leave when workers have come and all of them have said good-bye")
	return cmd
}

// watch keeps storages, and plain mounts on hosts, in step with their sources, in
// one process.
func (p *program) watch(ctx context.Context, pairs []pair, plain []hosts.Mount, f sourceFlags) error {
	switch {
	case len(pairs)+len(plain) == 0:
		return nil
	case f.untilDone && len(pairs) == 0:
		return usageHint(errors.New("--until-done waits for the workers of storages, and there is none with a source"), "leave it out")
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
		forHosts := a.watchForHosts(plain, f)
		if f.untilDone {
			leaveWithLast(loops, forHosts.part)
		}
		loops = append(loops, forHosts)
	}
	return a.run(ctx, loops...)
}

// leaveWithLast makes pt leave when the last of loops has ended.
func leaveWithLast(loops []loop, pt *part) {
	left := new(atomic.Int32)
	left.Store(int32(len(loops)))
	for i := range loops {
		after := loops[i].after
		loops[i].after = func(err error) {
			after(err)
			if left.Add(-1) == 0 {
				pt.leave("the task is done")
			}
		}
	}
}

// watchSource returns the loop that keeps the part's storage in step with tree.
func (pt *part) watchSource(ctx context.Context, tree manifest.Tree, f sourceFlags) loop {
	publisher := bus.NewPublisher(pt.conn, pt.key, pt.target.token(), pt.log)
	publisher.Published = pt.set.Bus().Published
	pt.service("publisher", publisher.Run)
	feed := watcher.NewGroup(tree, func() watcher.Options { return watcher.Options{Log: pt.log, Observer: pt.set.Watch()} })
	pt.service("watcher", feed.Run)

	w := &watch{part: pt, tree: tree, feed: feed}
	opts := pt.p.sourceOptions(pt.store, pt.key, pt.target, tree, f)
	opts.Announcer, opts.Committed, opts.Ready = publisher, w.committed, w.live
	w.source = syncer.NewSource(opts)
	remove := pt.set.AddSource(pt.target.token(), func() metrics.Source { return sourceMetrics(w.source.Status()) })
	pt.undo = append(pt.undo, remove)
	pt.oblige(nil)
	pt.report(pt.presence(pt.key.ID(), "watch", "", tree.String()), func(r *agentRecord) {
		describeSource(r, w.source.Status(), pt.conn.Up())
		r.Roots = rootsOf(tree)
	})
	if f.untilDone {
		pt.service("until done", pt.untilDone)
	}
	var firstPass context.Context
	firstPass, w.passed = context.WithCancel(ctx)
	w.drawn = pt.showProgress(firstPass, "syncing", w.source.Progress)
	return loop{part: pt, run: w.run, flush: publisher.Flush, after: w.after}
}

// A watch is a part that keeps a storage in step with a source.
type watch struct {
	*part
	tree   manifest.Tree
	feed   *watcher.Group
	source *syncer.Source
	books  *ledger
	passed func() // ends the progress of the first pass
	drawn  func() // waits for its end
}

func (w *watch) run(ctx context.Context) error {
	var err error
	if w.books, err = w.p.enter(ctx, w.target, w.store); err != nil {
		return err
	}
	w.service("registry", func(ctx context.Context) error { return w.books.keep(ctx, w.source.Status) })
	return w.source.Watch(ctx, w.feed)
}

// committed is told of every commit.
func (w *watch) committed(c syncer.Committed) {
	w.set.Committed(len(c.Changes), c.Took)
	w.p.sayCommitted(w.part, c, w.source.Status().State)
}

// live is told when the first scan is committed.
func (w *watch) live() {
	w.passed()
	w.p.noteRoots(w.target, w.tree)
	if err := w.books.note(w.ctx, w.source.Status()); err != nil {
		w.log.Warn("state not recorded", "err", err)
	}
	w.setReady()
	w.p.sayReady(w.source.Status(), w.part, w.tree.String())
	w.service("uploads", func(ctx context.Context) error {
		w.p.abortUploads(ctx, w.store, w.source.Status())
		return nil
	})
}

func (w *watch) after(err error) {
	w.passed()
	w.drawn()
	w.books.end(w.source.Status(), err)
	if err != nil {
		return
	}
	w.p.ui.say("left at generation %d", w.source.Status().Pos.Generation)
	if w.done.Load() {
		w.p.disposeAfter(w.books)
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
	Ignored    int    `json:"ignored"`
	Metrics    string `json:"metrics,omitempty"`
}

func (p *program) sayReady(st syncer.SourceStatus, pt *part, root string) {
	p.warnLeft(st)
	p.ui.say("watching %s → %s: %s, %s (generation %d)", root, pt.target.name,
		plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation)
	p.sayIgnored(st)
	p.ui.record(readyLine{true, pt.target.name, p.flags.source, root, st.Pos.Generation, st.Files, st.Bytes, len(st.Skipped), st.Ignored, pt.metricsURL})
}

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
