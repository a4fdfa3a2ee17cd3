//go:build compose && linux

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
)

// TestCompose brings docker-compose.yml up, as it is, and uses the stack as its
// users and its operators do. Grafana alone is left out: its image cannot be
// made from a Go module.
func TestCompose(t *testing.T) {
	began := time.Now()
	s := newStack(t)
	t.Logf("engine and images after %v", since(began))
	began = time.Now()
	s.up(t)
	t.Logf("docker-compose up, with everything healthy, took %v", since(began))

	t.Run("files", s.testFiles)
	t.Run("latency", s.testLatency)
	t.Run("operator", s.testOperator)
	t.Run("dashboards", s.testDashboards)
	t.Run("bus", s.testBus)
	t.Run("stop", s.testStop)
	t.Logf("the stack's test took %v, images aside", since(began))
}

func since(began time.Time) time.Duration { return time.Since(began).Round(10 * time.Millisecond) }

// workers are the services that show the files.
var workers = []string{"copy-1", "copy-2", "mount"}

// everywhere waits until every worker shows what want says of a path: a content,
// or that nothing is there.
func (s *stack) everywhere(t *testing.T, path, want string) {
	t.Helper()
	for _, w := range workers {
		waitFor(t, fmt.Sprintf("%s as it should be on %s", path, w), func() bool { return read(t, s.view(w, path)) == want })
	}
}

// view returns where a worker's file is, seen from here.
func (s *stack) view(worker, path string) string { return filepath.Join(s.roots[worker], "data", path) }

func (s *stack) testFiles(t *testing.T) {
	s.everywhere(t, "before", "written before the stack was up")
	write(t, filepath.Join(s.data, "run/a"), "one")
	large := strings.Repeat("0123456789abcdef", 1<<16)
	write(t, filepath.Join(s.data, "run/large"), large)
	s.everywhere(t, "run/a", "one")
	s.everywhere(t, "run/large", large)

	write(t, filepath.Join(s.data, "run/a"), "two")
	s.everywhere(t, "run/a", "two")
	must(t, os.Rename(filepath.Join(s.data, "run/a"), filepath.Join(s.data, "b")))
	s.everywhere(t, "b", "two")
	s.everywhere(t, "run/a", "")
	must(t, os.Remove(filepath.Join(s.data, "run/large")))
	s.everywhere(t, "run/large", "")

	write(t, s.view("mount", "from the mount"), "three")
	s.everywhere(t, "from the mount", "three")
}

// testLatency prints how long a save takes to be seen across containers.
func (s *stack) testLatency(t *testing.T) {
	const saves = 30
	took := map[string][]time.Duration{}
	for n := range saves {
		content := fmt.Sprintf("save %d", n)
		write(t, filepath.Join(s.data, "latency"), content)
		began := time.Now()
		for _, w := range workers {
			waitFor(t, content+" on "+w, func() bool { return read(t, s.view(w, "latency")) == content })
			took[w] = append(took[w], time.Since(began))
		}
	}
	for _, w := range workers {
		slices.Sort(took[w])
		t.Logf("from save to visible on %s: median %v, slowest of %d %v (looked at every 10 ms)",
			w, took[w][saves/2].Round(time.Millisecond), saves, took[w][saves-1].Round(time.Millisecond))
	}
}

// testOperator asks Prometheus what an operator asks first.
func (s *stack) testOperator(t *testing.T) {
	s.wantSeries(t, "all workers in step", "skyagent:lag_generations == 0", len(workers))
	s.wantSeries(t, "all agents up", `up{job="skyagent"} == 1`, len(workers)+1)
	s.wantSeries(t, "throughput", "rate(skyagent_source_uploaded_bytes_total[1m]) > 0", 1)
	s.wantSeries(t, "time from save to visible", "skyagent:visible_seconds:p50 > 0", 1)
}

// wantSeries waits until an expression has so many results.
func (s *stack) wantSeries(t *testing.T, what, expr string, n int) {
	t.Helper()
	var got []servers.Sample
	var err error
	waitFor(t, what, func() bool {
		got, err = s.prometheus.Query(expr)
		return err == nil && len(got) == n
	}, func() any { return fmt.Sprint(expr, got, err) })
	t.Logf("%s: %s is %v", what, expr, got)
}

// testDashboards wants every query of every dashboard to have an answer, now
// that all has happened that they show.
func (s *stack) testDashboards(t *testing.T) {
	for _, q := range dashboardQueries(t) {
		var got []servers.Sample
		waitFor(t, "data for "+q.where+": "+q.expr, func() bool {
			var err error
			got, err = s.prometheus.Query(q.expr)
			must(t, err)
			return len(got) > 0
		})
		t.Logf("%2d series: %s: %s", len(got), q.where, q.expr)
	}
}

// testBus takes NATS away and gives it back.
func (s *stack) testBus(t *testing.T) {
	i := slices.IndexFunc(rules(t), func(r rule) bool { return r.Alert == "SkyagentBusAway" })
	away := rules(t)[i].Expr
	s.wantSeries(t, "no alert", away, 0)
	s.compose(t, "stop", "nats")
	s.wantSeries(t, "the alert's expression on every agent", away, len(workers)+1)
	s.wantSeries(t, "the alert itself", `ALERTS{alertname="SkyagentBusAway"}`, len(workers)+1)
	write(t, filepath.Join(s.data, "without a bus"), "all the same")
	s.everywhere(t, "without a bus", "all the same")
	s.compose(t, "start", "nats")
	s.wantSeries(t, "the alert's expression", away, 0)
	write(t, filepath.Join(s.data, "with a bus"), "again")
	s.everywhere(t, "with a bus", "again")
}

// testStop wants every agent to end well when it is asked to.
func (s *stack) testStop(t *testing.T) {
	s.compose(t, "stop")
	for _, w := range append(workers, "watcher", "servers") {
		if code := s.inspect(t, w, "{{.State.ExitCode}}"); code != "0" {
			t.Errorf("%s ended with %s", w, code)
		}
	}
}
