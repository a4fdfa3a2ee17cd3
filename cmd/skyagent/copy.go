package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/syncer"
)

type copyFlags struct {
	once bool
	exec string
	poll time.Duration
}

func (p *program) copyCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy STORAGE DIR",
		Short: "Keep a directory in step with a storage (a COPY replica)",
		Long: `Bring a directory in step with a storage, and keep it so as events arrive.
Files appear under their names whole and verified. What is not skyagent's own,
or was edited here, is kept beside as NAME.skyagent-conflict-TIME.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.once {
				return p.copyOnce(cmd.Context(), args[0], args[1], f)
			}
			return p.follow(cmd.Context(), args[0], args[1], f)
		},
	}
	cmd.Flags().BoolVar(&f.once, "once", false, "one pass, then exit")
	cmd.Flags().StringVar(&f.exec, "exec", "", "run `CMD` after each applied generation, changed paths on its standard input")
	cmd.Flags().DurationVar(&f.poll, "poll", 15*time.Second, "how often to look at the log while the bus is away")
	return cmd
}

func (p *program) replicaOptions(t target, dir string, f copyFlags) syncer.ReplicaOptions {
	return syncer.ReplicaOptions{
		Dir: dir, Source: p.flags.source, Poll: f.poll, Log: p.logger(), Mounts: true,
		Index: p.places.index("replicas", t.stateName(p.flags.source, dir)),
	}
}

func (p *program) copyOnce(ctx context.Context, storage, dir string, f copyFlags) error {
	began := time.Now()
	t, err := p.named(ctx, storage)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	opts := p.replicaOptions(t, dir, f)
	if opts.Store, err = p.openStore(ctx, t, "", nil); err != nil {
		return err
	}
	hook := newHook(f.exec, dir, p.ui)
	opts.Applied = hook.applied
	replica := syncer.NewReplica(opts)
	drawing, drawn := context.WithCancel(ctx)
	wait := p.showProgress(drawing, "copying", replica.Progress)
	err = replica.Copy(ctx)
	drawn()
	wait()
	if err != nil {
		return noLog(err, t)
	}
	if err := hook.runOnce(ctx); err != nil {
		return err
	}
	p.sayCopied(replica.Status(), t, dir, time.Since(began))
	return nil
}

// noLog names the storage in an error that says it has no log.
func noLog(err error, t target) error {
	if errors.Is(err, manifest.ErrNoLog) {
		return fmt.Errorf("storage %s: %w", t.name, err)
	}
	return err
}

// A copyLine is the last line of copy --once --json.
type copyLine struct {
	Storage      string  `json:"storage"`
	Generation   uint64  `json:"generation"`
	Files        int     `json:"files"`
	Bytes        int64   `json:"bytes"`
	FetchedFiles int64   `json:"fetched_files"`
	FetchedBytes int64   `json:"fetched_bytes"`
	ReusedBytes  int64   `json:"reused_bytes"`
	Deleted      int64   `json:"deleted"`
	Conflicts    int64   `json:"conflicts"`
	Failed       int     `json:"failed"`
	Seconds      float64 `json:"seconds"`
}

func (p *program) sayCopied(st syncer.ReplicaStatus, t target, dir string, took time.Duration) {
	if st.Damage != nil {
		p.partly.Store(true)
		p.ui.warn("went only as far as generation %d: %s", st.Pos.Generation, oneLine(st.Damage.Error()))
		p.ui.hint(st.Damage)
	}
	for i, path := range slices.Sorted(maps.Keys(st.Failed)) {
		p.partly.Store(true)
		if i == maxWarnings {
			p.ui.warn("… and %d more", len(st.Failed)-maxWarnings)
			break
		}
		p.ui.warn("%s: not in place, %s", path, oneLine(st.Failed[path].Error()))
	}
	p.ui.say("copied %s → %s: %s, %s (generation %d): %d fetched (%s), %s reused, %d deleted, %d kept beside, %d failed in %s",
		t.name, dir, plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation,
		st.FetchedFiles, bytesOf(st.FetchedBytes), bytesOf(st.ReusedBytes), st.Deleted, st.Conflicts, len(st.Failed), round(took))
	p.ui.record(copyLine{
		Storage: t.name, Generation: st.Pos.Generation, Files: st.Files, Bytes: st.Bytes,
		FetchedFiles: st.FetchedFiles, FetchedBytes: st.FetchedBytes, ReusedBytes: st.ReusedBytes,
		Deleted: st.Deleted, Conflicts: st.Conflicts, Failed: len(st.Failed), Seconds: took.Seconds(),
	})
}

func (p *program) follow(ctx context.Context, storage, dir string, f copyFlags) error {
	t, err := p.named(ctx, storage)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	pt, err := p.startOn(ctx, t, "")
	if err != nil {
		return err
	}
	return pt.agent.run(ctx, pt.followReplica(ctx, dir, f))
}

// followReplica returns the loop that keeps dir in step with the part's storage.
func (pt *part) followReplica(ctx context.Context, dir string, f copyFlags) loop {
	p, t := pt.p, pt.target
	verifier := pt.verifier()
	follower := bus.NewFollower(pt.conn, t.token(), verifier, pt.log)
	pt.service("follower", follower.Run)
	hook := newHook(f.exec, dir, p.ui)
	pt.service("exec", hook.run)

	opts := p.replicaOptions(t, dir, f)
	opts.Store = pt.store
	heard := newMountWrites()
	opts.Written = heard
	feed := bus.NewFeed(pt.conn, t.token(), verifier, pt.log)
	pt.service("feed", func(ctx context.Context) error { return feed.Run(ctx, heard.hear) })
	firstPass, passed := context.WithCancel(ctx)
	var replica *syncer.Replica
	opts.Applied = func(done syncer.Applied) {
		pt.set.Applied(done.Took, done.Lag)
		for _, after := range done.Saved {
			pt.set.Visible(after)
		}
		hook.applied(done)
		p.sayApplied(done, replica.Status().State)
	}
	opts.Ready = func() {
		passed()
		pt.setReady()
		p.sayFollowing(replica.Status(), pt, dir)
	}
	replica = syncer.NewReplica(opts)
	pt.undo = append(pt.undo, pt.set.AddReplica(t.token(), func() metrics.Replica { return replicaMetrics(replica.Status()) }))
	pt.oblige(nil)
	pt.report(pt.presence(mountID(dir), "copy", "COPY", dir), func(r *agentRecord) { describeReplica(r, replica.Status(), pt.conn.Up()) })
	drawn := pt.showProgress(firstPass, "copying", replica.Progress)
	return loop{
		part: pt,
		run: func(ctx context.Context) error {
			return replica.Follow(ctx, announcements{follower, pt.conn, pt.set.Bus()})
		},
		after: func(err error) {
			passed()
			drawn()
			if err == nil {
				p.ui.say("left at generation %d", replica.Status().Pos.Generation)
			}
		},
	}
}

// announcements gives a replica the events of the bus, and a reason to look at
// the log whenever the bus comes or goes.
type announcements struct {
	follower *bus.Follower
	conn     *bus.Conn
	seen     metrics.Bus
}

// Next waits for an event, or for a change of the bus.
func (n announcements) Next(ctx context.Context) (manifest.Event, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := n.conn.Changed()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-waiting.Done():
		}
	}()
	e, err := n.follower.Next(waiting)
	if err != nil && ctx.Err() == nil {
		return manifest.Event{}, nil
	}
	if err == nil {
		n.seen.Delivered()
	}
	return e, err
}

// Up reports whether the bus is connected.
func (n announcements) Up() bool { return n.conn.Up() }

// An appliedLine is what copy --json prints for every step.
type appliedLine struct {
	Generation uint64  `json:"generation"`
	Changes    int     `json:"changes"`
	Failed     int     `json:"failed"`
	Seconds    float64 `json:"seconds"`
	Lag        float64 `json:"lag_seconds,omitempty"`
}

func (p *program) sayApplied(done syncer.Applied, state syncer.State) {
	if state != syncer.StateStarting {
		p.ui.say("generation %d: %s in place in %s", done.Pos.Generation, plural(len(done.Changes), "change"), round(done.Took))
	}
	p.ui.record(appliedLine{done.Pos.Generation, len(done.Changes), done.Failed, done.Took.Seconds(), done.Lag.Seconds()})
}

func (p *program) sayFollowing(st syncer.ReplicaStatus, pt *part, dir string) {
	p.ui.say("following %s → %s: %s, %s (generation %d)", pt.target.name, dir,
		plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation)
	p.ui.record(readyLine{Ready: true, Storage: pt.target.name, Source: p.flags.source, Path: dir,
		Generation: st.Pos.Generation, Files: st.Files, Bytes: st.Bytes, Metrics: pt.metricsURL})
}

func replicaMetrics(st syncer.ReplicaStatus) metrics.Replica {
	return metrics.Replica{
		Generation: float64(st.Pos.Generation), Files: float64(st.Files), Bytes: float64(st.Bytes), Failed: float64(len(st.Failed)),
		FetchedFiles: float64(st.FetchedFiles), FetchedBytes: float64(st.FetchedBytes),
		InlineFiles: float64(st.InlineFiles), ReusedBytes: float64(st.ReusedBytes),
		Deleted: float64(st.Deleted), Conflicts: float64(st.Conflicts), Steps: float64(st.Generations), Polls: float64(st.Polls),
		Degraded: st.State == syncer.StateDegraded,
	}
}

func describeReplica(r *agentRecord, st syncer.ReplicaStatus, up bool) {
	r.State, r.Reason = string(st.State), st.Reason
	if !up && st.State == syncer.StateReady {
		r.State, r.Reason = string(syncer.StateDegraded), "the bus is away; polling the log"
	}
	r.Epoch, r.Generation = st.Pos.Epoch, st.Pos.Generation
	r.Failed, r.Partial = len(st.Failed), len(st.Failed) > 0
	for _, path := range slices.Sorted(maps.Keys(st.Failed)) {
		if len(r.Left) == maxLeft {
			break
		}
		r.Left = append(r.Left, string(path)+": not in place, "+oneLine(st.Failed[path].Error()))
	}
}
