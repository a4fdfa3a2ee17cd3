package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

func (p *program) syncCommand() *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use:   "sync SRC... | -f TASK.yaml",
		Short: "Bring a storage in step with a directory, once",
		Args:  f.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			pairs, plain, err := p.pairs(cmd.Context(), args, f)
			if err != nil {
				return err
			}
			return p.sync(cmd.Context(), pairs, plain, f)
		},
	}
	f.register(cmd)
	return cmd
}

// sync brings storages, and plain mounts on hosts, in step with their sources. One
// that fails leaves the others alone.
func (p *program) sync(ctx context.Context, pairs []pair, plain []hosts.Mount, f sourceFlags) error {
	var failed []error
	for _, pr := range pairs {
		failed = append(failed, p.syncOne(ctx, pr.target, pr.tree, f))
	}
	if len(plain) > 0 {
		failed = append(failed, p.newHostSync(plain, p.hostRules(f), f).Once(ctx))
	}
	return joined(failed)
}

func (p *program) syncOne(ctx context.Context, t target, tree manifest.Tree, f sourceFlags) error {
	began := time.Now()
	store, err := p.openStore(ctx, t, p.uploadsDir(t, tree), nil)
	if err != nil {
		return err
	}
	key, err := bus.LoadOrCreateKey(p.places.state)
	if err != nil {
		return err
	}
	books, err := p.enter(ctx, t, store)
	if err != nil {
		return err
	}
	announcer := &lateAnnouncer{p: p, key: key, token: t.token()}
	opts := p.sourceOptions(store, key, t, tree, f)
	opts.Announcer = announcer
	source := syncer.NewSource(opts)
	drawing, drawn := context.WithCancel(ctx)
	wait := p.showProgress(drawing, "syncing", source.Progress)
	err = source.Sync(ctx)
	drawn()
	wait()
	announcer.leave(ctx)
	st := source.Status()
	books.end(st, err)
	var guarded *syncer.GuardedError
	if err != nil && !errors.As(err, &guarded) {
		return err
	}
	if err == nil {
		p.abortUploads(ctx, store, st)
	}
	p.noteRoots(t, tree)
	p.warnLeft(st)
	p.saySynced(st, t, tree.String(), time.Since(began))
	return err
}

func (p *program) sourceOptions(store objstore.Store, key *bus.Key, t target, tree manifest.Tree, f sourceFlags) syncer.SourceOptions {
	return syncer.SourceOptions{
		Tree: tree, Store: store, Source: p.flags.source,
		Index:   p.places.index("sources", t.stateName(p.flags.source, tree.String())),
		Storage: t.token(), Writer: key.ID(), Public: key.Public(), Host: hostname(),
		KeepDeleted: !f.delete, AllowMassDelete: f.allowMassDelete, Takeover: f.takeover,
		Log: p.logger(),
	}
}

// A syncLine is the last line of sync --json.
type syncLine struct {
	Storage       string  `json:"storage"`
	Generation    uint64  `json:"generation"`
	Files         int     `json:"files"`
	Bytes         int64   `json:"bytes"`
	UploadedFiles int64   `json:"uploaded_files"`
	UploadedBytes int64   `json:"uploaded_bytes"`
	CopiedFiles   int64   `json:"copied_files"`
	CopiedBytes   int64   `json:"copied_bytes"`
	ReusedBytes   int64   `json:"reused_bytes"`
	Deleted       int64   `json:"deleted"`
	Skipped       int     `json:"skipped"`
	Ignored       int     `json:"ignored"`
	Failed        int     `json:"failed"`
	Conflicts     int64   `json:"conflicts"`
	Seconds       float64 `json:"seconds"`
}

func (p *program) saySynced(st syncer.SourceStatus, t target, root string, took time.Duration) {
	p.ui.say("synced %s → %s: %s, %s (generation %d): %d uploaded (%s), %d copied, %d deleted, %d skipped, %d failed in %s",
		root, t.name, plural(st.Files, "file"), bytesOf(st.Bytes), st.Pos.Generation,
		st.UploadedFiles, bytesOf(st.UploadedBytes), st.CopiedFiles, st.Deleted, len(st.Skipped), len(st.Failed), round(took))
	p.sayIgnored(st)
	p.ui.record(syncLine{
		Storage: t.name, Generation: st.Pos.Generation, Files: st.Files, Bytes: st.Bytes,
		UploadedFiles: st.UploadedFiles, UploadedBytes: st.UploadedBytes,
		CopiedFiles: st.CopiedFiles, CopiedBytes: st.CopiedBytes, ReusedBytes: st.ReusedBytes,
		Deleted: st.Deleted, Skipped: len(st.Skipped), Ignored: st.Ignored, Failed: len(st.Failed), Conflicts: st.Conflicts,
		Seconds: took.Seconds(),
	})
}

// sayIgnored says how much rules left out: who misses a file will look here.
func (p *program) sayIgnored(st syncer.SourceStatus) {
	if st.Ignored > 0 {
		p.ui.say("%s ignored by rules: skyagent why PATH names the rule, --no-ignore syncs all", plural(st.Ignored, "path"))
	}
}

// maxWarnings bounds the lines about single files.
const maxWarnings = 20

// warnLeft names what was left out, and makes the exit code say so.
func (p *program) warnLeft(st syncer.SourceStatus) {
	left := leftOut(st)
	if len(left) > 0 {
		p.partly.Store(true)
	}
	for i, line := range left {
		if i == maxWarnings {
			p.ui.warn("… and %d more; skyagent status names them", len(left)-maxWarnings)
			return
		}
		p.ui.warn("%s", line)
	}
}

// leftOut names what is not synced and was expected to be, with the reason.
func leftOut(st syncer.SourceStatus) []string {
	var lines []string
	for _, k := range st.Skipped {
		if !k.Why.Odd() {
			continue
		}
		line := printable(k.Name) + ": skipped, " + skipWords[k.Why]
		if k.Err != nil {
			line += " (" + oneLine(bare(k.Err).Error()) + ")"
		}
		lines = append(lines, line)
	}
	for _, path := range slices.Sorted(maps.Keys(st.Failed)) {
		lines = append(lines, string(path)+": not synced, "+oneLine(st.Failed[path].Error()))
	}
	return lines
}

var skipWords = map[manifest.Skip]string{
	manifest.SkipSpecial:    "it is a FIFO, a socket or a device",
	manifest.SkipName:       "its name is not valid UTF-8; rename it",
	manifest.SkipUnreadable: "it cannot be read",
}

func sourceMetrics(st syncer.SourceStatus) metrics.Source {
	return metrics.Source{
		Generation: float64(st.Pos.Generation), Files: float64(st.Files), Bytes: float64(st.Bytes),
		Dirty: float64(st.Dirty), Skipped: float64(len(st.Skipped)), Failed: float64(len(st.Failed)),
		Guarded:       st.State == syncer.StateGuarded,
		UploadedFiles: float64(st.UploadedFiles), UploadedBytes: float64(st.UploadedBytes),
		CopiedFiles: float64(st.CopiedFiles), CopiedBytes: float64(st.CopiedBytes), ReusedBytes: float64(st.ReusedBytes),
		Deleted: float64(st.Deleted), Commits: float64(st.Commits), Changes: float64(st.Changes),
		Conflicts: float64(st.Conflicts), Unstable: float64(st.Unstable), Scans: float64(st.Scans),
		ScannedEntries: float64(st.Scanned), HashedBytes: float64(st.HashedBytes), CheckpointBytes: float64(st.CheckpointBytes),
		Degraded: st.State == syncer.StateDegraded,
	}
}

// describeSource fills in what a source's status says. A bus that is away
// degrades a watch that is otherwise well: workers poll then.
func describeSource(r *agentRecord, st syncer.SourceStatus, up bool) {
	r.State, r.Reason = string(st.State), st.Reason
	if !up && (st.State == syncer.StateReady || st.State == syncer.StateSyncing) {
		r.State, r.Reason = string(syncer.StateDegraded), "the bus is away; workers poll the log"
	}
	r.Epoch, r.Generation = st.Pos.Epoch, st.Pos.Generation
	r.Dirty, r.Skipped, r.Failed = st.Dirty, len(st.Skipped), len(st.Failed)
	r.Left = leftOut(st)
	r.Left = r.Left[:min(len(r.Left), maxLeft)]
}

// A lateAnnouncer connects to the bus with the first commit: a pass that
// changes nothing needs none.
type lateAnnouncer struct {
	p     *program
	key   *bus.Key
	token string

	mu        sync.Mutex // guards what follows
	conn      *bus.Conn
	publisher *bus.Publisher
	stop      context.CancelFunc
	done      chan struct{}
}

// Announce tells the bus of a commit.
func (l *lateAnnouncer) Announce(e manifest.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publisher == nil && !l.connect() {
		return
	}
	l.publisher.Announce(e)
}

func (l *lateAnnouncer) connect() bool {
	if l.done != nil {
		return false // tried before
	}
	l.done = make(chan struct{})
	opts, err := l.p.busOptions()
	if err == nil && len(opts.URLs) == 0 {
		if _, err := bus.ReadAddress(opts.AddressDir); errors.Is(err, fs.ErrNotExist) {
			return false // no bus on this machine: nobody listens
		}
	}
	if err == nil {
		l.conn, err = bus.Connect(opts)
	}
	if err != nil {
		l.p.ui.warn("not announced on the bus, workers poll the log: %v", err)
		return false
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.publisher = bus.NewPublisher(l.conn, l.key, l.token, l.p.logger())
	go func() {
		defer close(l.done)
		l.publisher.Run(ctx)
	}()
	return true
}

// leave publishes what is left, if the bus can be reached at all.
func (l *lateAnnouncer) leave(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publisher == nil {
		return
	}
	l.flushLocked(ctx)
	l.stop()
	<-l.done
	l.conn.Close()
}

// flush publishes what was announced, if the bus can be reached at all.
func (l *lateAnnouncer) flush(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publisher != nil {
		l.flushLocked(ctx)
	}
}

func (l *lateAnnouncer) flushLocked(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	if err := l.conn.WaitUp(ctx); err != nil {
		l.p.ui.warn("not announced on the bus, workers poll the log: %v", err)
		return
	}
	l.publisher.Flush(ctx)
}
