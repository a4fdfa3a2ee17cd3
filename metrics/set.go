package metrics

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A Set is the metrics of one agent.
type Set struct {
	reg  *prometheus.Registry
	rows []Row

	watchEvents    *prometheus.CounterVec
	watchOverflows prometheus.Counter
	watchRescans   *prometheus.CounterVec
	watchSettle    prometheus.Histogram
	watchDirty     prometheus.Gauge
	watches        prometheus.Gauge

	storeSeconds *prometheus.HistogramVec
	storeBytes   *prometheus.CounterVec
	storeErrors  *prometheus.CounterVec
	storeRetries *prometheus.CounterVec

	mountSeconds *prometheus.HistogramVec

	commitSeconds prometheus.Histogram
	commitChanges prometheus.Histogram

	busUp        prometheus.Gauge
	busDropped   *prometheus.CounterVec
	busDelivered prometheus.Counter
	busPublished prometheus.Counter

	applySeconds   prometheus.Histogram
	lagSeconds     prometheus.Histogram
	visibleSeconds prometheus.Histogram

	tables   sync.Mutex // held while a table is made
	sources  *table[Source]
	replicas *table[Replica]
	mounts   *table[Mount]
}

// New returns a Set with a registry of its own. version is the program's.
func New(version string) *Set {
	s := &Set{reg: prometheus.NewRegistry()}
	s.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.newWatcher()
	s.newStore()
	s.newBus()
	s.newSync()
	s.mountSeconds = s.histogramVec("mount_operation_seconds", "Time of the kernel's requests to mounts; what it answers by itself is not among them.", latencyBuckets, label{"op", mountOps})
	s.newBuildInfo(version)
	return s
}

func (s *Set) newBuildInfo(version string) {
	const name, help = "build_info", "Always 1; the labels say which build runs."
	s.row("gauge", name, help, "goversion", "version")
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: name, Help: help,
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 }))
}

func (s *Set) newWatcher() {
	s.watchEvents = s.counterVec("watch_events_total", "File system events seen, by kind.", label{"op", watchOps})
	s.watchOverflows = s.counter("watch_overflows_total", "Times the kernel's event queue was full.")
	s.watchRescans = s.counterVec("watch_rescans_total", "Walks of the whole tree, by what asked for them.", label{"reason", rescanReasons})
	s.watchSettle = s.histogram("watch_settle_seconds", "From the first event of a path until it was settled.", settleBuckets)
	s.watchDirty = s.gauge("watch_dirty_paths", "Paths that changed and have not settled.")
	s.watches = s.gauge("watch_directories", "Directories that are watched.")
}

func (s *Set) newStore() {
	s.storeSeconds = s.histogramVec("store_request_seconds", "Time of store operations, with their retries.", latencyBuckets, label{"op", storeOps})
	s.storeBytes = s.counterVec("store_bytes_total", "Bytes of content sent to and read from the store.", label{"op", storeOps})
	s.storeErrors = s.counterVec("store_errors_total", "Store operations that ended in an error, by kind.", label{"op", storeOps}, label{"kind", storeErrors})
	s.storeRetries = s.counterVec("store_retries_total", "Store operations tried again.", label{"op", storeOps})
}

func (s *Set) newBus() {
	s.busUp = s.gauge("bus_up", "1 while the bus is connected.")
	s.busDelivered = s.counter("bus_delivered_total", "Events received and found to be genuine.")
	s.busDropped = s.counterVec("bus_dropped_total", "Events received and dropped, by reason.", label{"reason", dropReasons})
	s.busPublished = s.counter("bus_published_total", "Events that the bus took.")
}

func (s *Set) newSync() {
	s.commitSeconds = s.histogram("commit_seconds", "From the look at a changed file until it was committed.", latencyBuckets)
	s.commitChanges = s.histogram("commit_changes", "Changes of a commit.", prometheus.ExponentialBuckets(1, 4, 8))
	s.applySeconds = s.histogram("apply_seconds", "Time a replica took to put one step in place.", latencyBuckets)
	s.lagSeconds = s.histogram("apply_lag_seconds", "From a commit, by its writer's clock, until it was in place.", latencyBuckets)
	s.visibleSeconds = s.histogram("visible_seconds", "From the save of a file, by its modification time, until it was in place on the replica.", latencyBuckets)
}

var (
	latencyBuckets = prometheus.ExponentialBuckets(0.001, 2, 16) // 1 ms to 33 s
	settleBuckets  = prometheus.ExponentialBuckets(0.005, 2, 14) // 5 ms to 41 s
)

// Committed reports one commit.
func (s *Set) Committed(changes int, took time.Duration) {
	s.commitSeconds.Observe(took.Seconds())
	s.commitChanges.Observe(float64(changes))
}

// Applied reports one step of a replica. lag is 0 when it is not known.
func (s *Set) Applied(took, lag time.Duration) {
	s.applySeconds.Observe(took.Seconds())
	if lag > 0 {
		s.lagSeconds.Observe(lag.Seconds())
	}
}

// Visible reports that a file came into place, this long after it was saved.
func (s *Set) Visible(after time.Duration) { s.visibleSeconds.Observe(after.Seconds()) }

// StoreOperation reports one operation of a store; kind names its error and is
// "" for none.
func (s *Set) StoreOperation(op string, took time.Duration, bytes int64, kind string) {
	op = among(storeOps, op)
	s.storeSeconds.WithLabelValues(op).Observe(took.Seconds())
	if bytes > 0 {
		s.storeBytes.WithLabelValues(op).Add(float64(bytes))
	}
	if kind != "" {
		s.storeErrors.WithLabelValues(op, among(storeErrors, kind)).Inc()
	}
}

// StoreRetry reports that an operation is tried again.
func (s *Set) StoreRetry(op string) { s.storeRetries.WithLabelValues(among(storeOps, op)).Inc() }

const namespace = "skyagent"

// A Row describes one metric, for docs/metrics.md.
type Row struct {
	Name, Type, Help string
	Labels           []string
}

func (s *Set) row(kind, name, help string, labels ...string) {
	s.rows = append(s.rows, Row{namespace + "_" + name, kind, help, labels})
}

// Rows returns a description of every metric of ours, in the order of their
// names. Those of Go and of the process come on top.
func (s *Set) Rows() []Row {
	return slices.SortedFunc(slices.Values(s.rows), func(a, b Row) int { return strings.Compare(a.Name, b.Name) })
}

func (s *Set) counter(name, help string) prometheus.Counter {
	s.row("counter", name, help)
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	s.reg.MustRegister(c)
	return c
}

func (s *Set) counterVec(name, help string, labels ...label) *prometheus.CounterVec {
	s.row("counter", name, help, names(labels)...)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, names(labels))
	for values := range combinations(labels) {
		c.WithLabelValues(values...)
	}
	s.reg.MustRegister(c)
	return c
}

func (s *Set) gauge(name, help string) prometheus.Gauge {
	s.row("gauge", name, help)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	s.reg.MustRegister(g)
	return g
}

func (s *Set) histogram(name, help string, buckets []float64) prometheus.Histogram {
	s.row("histogram", name, help)
	h := prometheus.NewHistogram(histogramOpts(name, help, buckets))
	s.reg.MustRegister(h)
	return h
}

func (s *Set) histogramVec(name, help string, buckets []float64, labels ...label) *prometheus.HistogramVec {
	s.row("histogram", name, help, names(labels)...)
	h := prometheus.NewHistogramVec(histogramOpts(name, help, buckets), names(labels))
	for values := range combinations(labels) {
		h.WithLabelValues(values...)
	}
	s.reg.MustRegister(h)
	return h
}

// histogramOpts keeps classic buckets beside native ones, for servers that do
// not scrape native histograms.
func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	}
}
