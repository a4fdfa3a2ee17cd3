package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A Source is what a source counts, at one moment.
type Source struct {
	Generation, Files, Bytes, Dirty, Skipped, Failed float64
	Guarded, Degraded                                bool

	UploadedFiles, UploadedBytes, CopiedFiles, CopiedBytes, ReusedBytes float64
	Deleted, Commits, Changes, Conflicts, Unstable, Scans               float64
	ScannedEntries, HashedBytes, CheckpointBytes                        float64
}

// A Replica is what a replica counts, at one moment.
type Replica struct {
	Generation, Files, Bytes, Failed float64
	Degraded                         bool

	FetchedFiles, FetchedBytes, InlineFiles, ReusedBytes float64
	Deleted, Conflicts, Steps, Polls                     float64
}

// A column reads one number of a snapshot of type T.
type column[T any] struct {
	name, help string
	kind       prometheus.ValueType
	read       func(T) float64
	least      bool // of several parts of one storage the least counts, not the sum
}

func (c column[T]) desc() *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+c.name, c.help, []string{storageLabel}, nil)
}

// ofLeast makes the least count where several parts have one storage.
func (c column[T]) ofLeast() column[T] {
	c.least = true
	return c
}

// fold returns what parts that have one storage count together.
func (c column[T]) fold(parts []T) float64 {
	sum := c.read(parts[0])
	for _, p := range parts[1:] {
		if c.least {
			sum = min(sum, c.read(p))
		} else {
			sum += c.read(p)
		}
	}
	return sum
}

// storageLabel is the one label whose values users choose.
const storageLabel = "storage"

// A table exports the columns of snapshots that are taken at every scrape.
type table[T any] struct {
	columns []column[T]

	mu    sync.Mutex             // guards what follows
	parts map[string][]*func() T // by storage
}

func (t *table[T]) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range t.columns {
		ch <- c.desc()
	}
}

func (t *table[T]) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for storage, takes := range t.parts {
		parts := make([]T, len(takes))
		for i, take := range takes {
			parts[i] = (*take)()
		}
		for _, c := range t.columns {
			ch <- prometheus.MustNewConstMetric(c.desc(), c.kind, c.fold(parts), storage)
		}
	}
}

// add exports what take returns, until remove is called.
func (t *table[T]) add(storage string, take func() T) (remove func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &take
	t.parts[storage] = append(t.parts[storage], mine)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		left := slices.DeleteFunc(t.parts[storage], func(f *func() T) bool { return f == mine })
		if t.parts[storage] = left; len(left) == 0 {
			delete(t.parts, storage)
		}
	}
}

func total[T any](name, help string, read func(T) float64) column[T] {
	return column[T]{name: name, help: help, kind: prometheus.CounterValue, read: read}
}

func now[T any](name, help string, read func(T) float64) column[T] {
	return column[T]{name: name, help: help, kind: prometheus.GaugeValue, read: read}
}

// AddSource exports what take returns, for the named storage, until remove is
// called. What several sources of one storage return is added up; so for
// replicas and mounts.
func (s *Set) AddSource(storage string, take func() Source) (remove func()) {
	return addTable(s, &s.sources, storage, take, sourceColumns)
}

var sourceColumns = []column[Source]{
	now("source_generation", "Newest generation that the source committed.", func(t Source) float64 { return t.Generation }).ofLeast(),
	now("source_files", "Regular files in the manifest.", func(t Source) float64 { return t.Files }),
	now("source_bytes", "Bytes of the files in the manifest.", func(t Source) float64 { return t.Bytes }),
	now("source_dirty_paths", "Paths that are under way or waiting.", func(t Source) float64 { return t.Dirty }),
	now("source_skipped_entries", "Entries that are not synced by rule.", func(t Source) float64 { return t.Skipped }),
	now("source_failed_files", "Files that could not be synced and are tried again.", func(t Source) float64 { return t.Failed }),
	now("source_guarded", "1 while a mass deletion is held back.", func(t Source) float64 { return flag(t.Guarded) }),
	now("source_degraded", "Above 0 while a source cannot do its work: the store refuses, or files fail.", func(t Source) float64 { return flag(t.Degraded) }),
	now("source_checkpoint_bytes", "Size of the checkpoint that was written last; 0 before the first.", func(t Source) float64 { return t.CheckpointBytes }),
	total("source_uploaded_files_total", "Files whose content was sent.", func(t Source) float64 { return t.UploadedFiles }),
	total("source_uploaded_bytes_total", "Bytes of content sent.", func(t Source) float64 { return t.UploadedBytes }),
	total("source_copied_files_total", "Files copied inside the store instead of being sent.", func(t Source) float64 { return t.CopiedFiles }),
	total("source_copied_bytes_total", "Bytes copied inside the store instead of being sent.", func(t Source) float64 { return t.CopiedBytes }),
	total("source_reused_bytes_total", "Bytes of changed files that the store copied from the old version.", func(t Source) float64 { return t.ReusedBytes }),
	total("source_deleted_files_total", "Files deleted from the bucket.", func(t Source) float64 { return t.Deleted }),
	total("source_commits_total", "Commits written.", func(t Source) float64 { return t.Commits }),
	total("source_changes_total", "Changes committed.", func(t Source) float64 { return t.Changes }),
	total("source_conflicts_total", "Versions of others kept beside.", func(t Source) float64 { return t.Conflicts }),
	total("source_unstable_reads_total", "Reads thrown away because the file changed.", func(t Source) float64 { return t.Unstable }),
	total("source_scans_total", "Scans of the whole tree that ended.", func(t Source) float64 { return t.Scans }),
	total("source_scanned_entries_total", "Entries of the tree that those scans looked at.", func(t Source) float64 { return t.ScannedEntries }),
	total("source_hashed_bytes_total", "Bytes of the tree read and hashed.", func(t Source) float64 { return t.HashedBytes }),
}

// AddReplica exports what take returns, for the named storage.
func (s *Set) AddReplica(storage string, take func() Replica) (remove func()) {
	return addTable(s, &s.replicas, storage, take, replicaColumns)
}

var replicaColumns = []column[Replica]{
	now("replica_generation", "Newest generation that the replica reached.", func(t Replica) float64 { return t.Generation }).ofLeast(),
	now("replica_files", "Regular files in place.", func(t Replica) float64 { return t.Files }),
	now("replica_bytes", "Bytes of the files in place.", func(t Replica) float64 { return t.Bytes }),
	now("replica_failed_files", "Files that could not be put in place and are tried again.", func(t Replica) float64 { return t.Failed }),
	now("replica_degraded", "Above 0 while a replica cannot do its work: the store or the disk refuses.", func(t Replica) float64 { return flag(t.Degraded) }),
	total("replica_steps_total", "Steps applied; one step may span several generations.", func(t Replica) float64 { return t.Steps }),
	total("replica_fetched_files_total", "Files fetched from the store.", func(t Replica) float64 { return t.FetchedFiles }),
	total("replica_fetched_bytes_total", "Bytes fetched from the store.", func(t Replica) float64 { return t.FetchedBytes }),
	total("replica_inline_files_total", "Files placed from an event, without a request.", func(t Replica) float64 { return t.InlineFiles }),
	total("replica_reused_bytes_total", "Bytes taken from local files instead of being fetched.", func(t Replica) float64 { return t.ReusedBytes }),
	total("replica_deleted_files_total", "Files deleted.", func(t Replica) float64 { return t.Deleted }),
	total("replica_conflicts_total", "Local versions kept beside.", func(t Replica) float64 { return t.Conflicts }),
	total("replica_polls_total", "Listings of the log.", func(t Replica) float64 { return t.Polls }),
}

// addTable adds a part to a table, which is registered with its first one.
func addTable[T any](s *Set, t **table[T], storage string, take func() T, columns []column[T]) (remove func()) {
	s.tables.Lock()
	defer s.tables.Unlock()
	if *t == nil {
		*t = &table[T]{columns: columns, parts: make(map[string][]*func() T)}
		for _, c := range columns {
			kind := "gauge"
			if c.kind == prometheus.CounterValue {
				kind = "counter"
			}
			s.row(kind, c.name, c.help, storageLabel)
		}
		s.reg.MustRegister(*t)
	}
	return (*t).add(storage, take)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
