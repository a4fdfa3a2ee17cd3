package metrics

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A Source is what a source counts, at one moment.
type Source struct {
	Generation, Files, Bytes, Dirty, Skipped, Failed float64
	Guarded                                          bool

	UploadedFiles, UploadedBytes, CopiedFiles, CopiedBytes, ReusedBytes float64
	Deleted, Commits, Changes, Conflicts, Unstable, Scans               float64
}

// A Replica is what a replica counts, at one moment.
type Replica struct {
	Generation, Files, Bytes, Failed float64

	FetchedFiles, FetchedBytes, InlineFiles, ReusedBytes float64
	Deleted, Conflicts, Steps, Polls                     float64
}

// A column reads one number of a snapshot of type T.
type column[T any] struct {
	name, help string
	kind       prometheus.ValueType
	read       func(T) float64
}

func (c column[T]) desc() *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+c.name, c.help, []string{storageLabel}, nil)
}

// storageLabel is the one label whose values users choose.
const storageLabel = "storage"

// A table exports the columns of snapshots that are taken at every scrape, one
// for each storage.
type table[T any] struct {
	columns []column[T]

	mu   sync.Mutex // guards rows
	rows map[string]func() T
}

// add adds a storage, until remove is called. One that is there already is told
// apart by a number.
func (t *table[T]) add(storage string, take func() T) (remove func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := storage
	for n := 2; t.rows[name] != nil; n++ {
		name = fmt.Sprintf("%s#%d", storage, n)
	}
	t.rows[name] = take
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.rows, name)
	}
}

func (t *table[T]) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range t.columns {
		ch <- c.desc()
	}
}

func (t *table[T]) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for storage, take := range t.rows {
		snapshot := take()
		for _, c := range t.columns {
			ch <- prometheus.MustNewConstMetric(c.desc(), c.kind, c.read(snapshot), storage)
		}
	}
}

func total[T any](name, help string, read func(T) float64) column[T] {
	return column[T]{name, help, prometheus.CounterValue, read}
}

func now[T any](name, help string, read func(T) float64) column[T] {
	return column[T]{name, help, prometheus.GaugeValue, read}
}

// AddSource exports what take returns, for the named storage, until remove is called.
func (s *Set) AddSource(storage string, take func() Source) (remove func()) {
	return addTable(s, storage, take, sourceColumns)
}

var sourceColumns = []column[Source]{
	now("source_generation", "Newest generation that the source committed.", func(t Source) float64 { return t.Generation }),
	now("source_files", "Regular files in the manifest.", func(t Source) float64 { return t.Files }),
	now("source_bytes", "Bytes of the files in the manifest.", func(t Source) float64 { return t.Bytes }),
	now("source_dirty_paths", "Paths that are under way or waiting.", func(t Source) float64 { return t.Dirty }),
	now("source_skipped_entries", "Entries that are not synced by rule.", func(t Source) float64 { return t.Skipped }),
	now("source_failed_files", "Files that could not be synced and are tried again.", func(t Source) float64 { return t.Failed }),
	now("source_guarded", "1 while a mass deletion is held back.", func(t Source) float64 { return flag(t.Guarded) }),
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
}

// AddReplica exports what take returns, for the named storage, until remove is called.
func (s *Set) AddReplica(storage string, take func() Replica) (remove func()) {
	return addTable(s, storage, take, replicaColumns)
}

var replicaColumns = []column[Replica]{
	now("replica_generation", "Newest generation that the replica reached.", func(t Replica) float64 { return t.Generation }),
	now("replica_files", "Regular files in place.", func(t Replica) float64 { return t.Files }),
	now("replica_bytes", "Bytes of the files in place.", func(t Replica) float64 { return t.Bytes }),
	now("replica_failed_files", "Files that could not be put in place and are tried again.", func(t Replica) float64 { return t.Failed }),
	total("replica_steps_total", "Steps applied; one step may span several generations.", func(t Replica) float64 { return t.Steps }),
	total("replica_fetched_files_total", "Files fetched from the store.", func(t Replica) float64 { return t.FetchedFiles }),
	total("replica_fetched_bytes_total", "Bytes fetched from the store.", func(t Replica) float64 { return t.FetchedBytes }),
	total("replica_inline_files_total", "Files placed from an event, without a request.", func(t Replica) float64 { return t.InlineFiles }),
	total("replica_reused_bytes_total", "Bytes taken from local files instead of being fetched.", func(t Replica) float64 { return t.ReusedBytes }),
	total("replica_deleted_files_total", "Files deleted.", func(t Replica) float64 { return t.Deleted }),
	total("replica_conflicts_total", "Local versions kept beside.", func(t Replica) float64 { return t.Conflicts }),
	total("replica_polls_total", "Listings of the log.", func(t Replica) float64 { return t.Polls }),
}

// addTable adds a storage to the table of type T, which the first one makes.
func addTable[T any](s *Set, storage string, take func() T, columns []column[T]) (remove func()) {
	s.tablesMu.Lock()
	defer s.tablesMu.Unlock()
	for _, known := range s.tables {
		if t, ok := known.(*table[T]); ok {
			return t.add(storage, take)
		}
	}
	for _, c := range columns {
		kind := "gauge"
		if c.kind == prometheus.CounterValue {
			kind = "counter"
		}
		s.row(kind, c.name, c.help, storageLabel)
	}
	t := &table[T]{columns: columns, rows: make(map[string]func() T)}
	remove = t.add(storage, take)
	s.reg.MustRegister(t)
	s.tables = append(s.tables, t)
	return remove
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
