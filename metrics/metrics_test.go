package metrics_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/metrics"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// full returns a Set in which every metric has a value.
func full() *metrics.Set {
	s := metrics.New("test")
	s.AddSource("data", func() metrics.Source { return metrics.Source{Generation: 7, Guarded: true} })
	s.AddReplica("data", func() metrics.Replica { return metrics.Replica{Generation: 6} })
	s.AddMount("data", func() metrics.Mount { return metrics.Mount{Files: 5, Trusted: true, StoreBytes: 4} })
	s.Watch().Event("write")
	s.Watch().Rescan("start")
	s.Watch().Overflow()
	s.Watch().Dirty(1)
	s.Watch().Watches(2)
	s.Watch().Settled(5 * time.Millisecond)
	s.Bus().Up(true)
	s.Bus().Dropped("forged")
	s.Bus().Dropped("a reason that nobody knows")
	s.Bus().Published()
	s.Committed(3, time.Millisecond)
	s.Applied(time.Millisecond, time.Second)
	s.Visible(time.Millisecond)
	s.MountOperation("open", time.Millisecond)
	s.StoreOperation("put", time.Millisecond, 10, "throttled")
	s.StoreRetry("put")
	return s
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestEveryMetricIsExportedAndDocumented(t *testing.T) {
	s := full()
	_, page := get(t, s.Handler(func() error { return nil }), "/metrics")
	var doc strings.Builder
	doc.WriteString("# Metrics\n\nServed at `http://127.0.0.1:9464/metrics` (`--metrics`), beside those of Go and of the process. Histograms carry native and classic buckets. The values of labels come from fixed sets, with `other` for what is in none; a storage's name is the only free one. [monitoring.md](monitoring.md) has dashboards and alerts. `make docs` writes this table.\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, r := range s.Rows() {
		fmt.Fprintf(&doc, "| `%s` | %s | %s | %s |\n", r.Name, r.Type, strings.Join(r.Labels, ", "), r.Help)
		if !strings.Contains(page, "# TYPE "+r.Name+" "+r.Type+"\n") {
			t.Errorf("%s is not exported as a %s", r.Name, r.Type)
		}
	}
	path := filepath.Join("..", "docs", "metrics.md")
	if *update {
		if err := os.WriteFile(path, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != doc.String() {
		t.Errorf("docs/metrics.md is not what the code says (%v): run make docs", err)
	}
}

// TestSeveralParts adds up what parts of one storage count, takes the least of
// what cannot be added, and forgets a part that ended.
func TestSeveralParts(t *testing.T) {
	s := metrics.New("test")
	part := func(generation, files float64) func() metrics.Replica {
		return func() metrics.Replica { return metrics.Replica{Generation: generation, Files: files} }
	}
	remove := s.AddReplica("one", part(7, 10))
	s.AddReplica("one", part(8, 5))
	s.AddReplica("two", part(1, 1))
	want := func(lines ...string) {
		t.Helper()
		_, page := get(t, s.Handler(func() error { return nil }), "/metrics")
		for _, line := range lines {
			if !strings.Contains(page, line+"\n") {
				t.Errorf("no line %s", line)
			}
		}
	}
	want(`skyagent_replica_generation{storage="one"} 7`, `skyagent_replica_files{storage="one"} 15`, `skyagent_replica_files{storage="two"} 1`)
	remove()
	want(`skyagent_replica_generation{storage="one"} 8`, `skyagent_replica_files{storage="one"} 5`)
}

func TestValues(t *testing.T) {
	_, page := get(t, full().Handler(func() error { return nil }), "/metrics")
	for _, want := range []string{
		`skyagent_source_generation{storage="data"} 7`,
		`skyagent_source_guarded{storage="data"} 1`,
		`skyagent_replica_generation{storage="data"} 6`,
		`skyagent_mount_files{storage="data"} 5`,
		`skyagent_mount_bus_trusted{storage="data"} 1`,
		`skyagent_mount_read_store_bytes_total{storage="data"} 4`,
		`skyagent_store_bytes_total{op="put"} 10`,
		`skyagent_store_errors_total{kind="throttled",op="put"} 1`,
		`skyagent_store_errors_total{kind="not_found",op="head"} 0`,
		`skyagent_bus_dropped_total{reason="forged"} 1`,
		`skyagent_bus_dropped_total{reason="other"} 1`,
		`skyagent_bus_published_total 1`,
		`skyagent_visible_seconds_count 1`,
		`skyagent_mount_operation_seconds_count{op="open"} 1`,
		`skyagent_apply_lag_seconds_count 1`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	notYet := errors.New("not in step yet")
	ready := notYet
	h := metrics.New("test").Handler(func() error { return ready })
	if code, _ := get(t, h, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz = %d before it is ready", code)
	}
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, notYet.Error()) {
		t.Errorf("/readyz = %d %q before it is ready", code, body)
	}
	ready = nil
	if code, _ := get(t, h, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz = %d when it is ready", code)
	}
}

func TestListenMovesOnFromATakenPort(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := metrics.Listen(first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if first.Addr().String() == second.Addr().String() {
		t.Errorf("both listen on %s", first.Addr())
	}
	for _, bad := range []string{"nonsense", "127.0.0.1:port", "127.0.0.1:99999"} {
		if l, err := metrics.Listen(bad); err == nil {
			l.Close()
			t.Errorf("Listen(%q) succeeded", bad)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := metrics.New("test").Serve(canceled(t), l, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
