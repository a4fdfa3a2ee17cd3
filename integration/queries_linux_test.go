package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// TestQueries runs a watch, a copy and a mount, has Prometheus scrape them, and
// asks it everything that dashboards, recording rules and alerts ask.
func TestQueries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "one")
	watch, replica := r.watch(t), r.copy(t)
	_, mounted := r.mount(t)
	agents := []*program.Process{watch, replica, mounted}
	known := inventory{"up": nil, "ALERTS": {"alertname", "alertstate"}}
	known.addRules(rules(t))
	for _, p := range agents {
		known.addPage(metrics(t, p))
		checkPage(t, p)
	}
	server := servers.Prometheus(t, scrapeConfig(t, agents))
	write(t, filepath.Join(r.source, "b"), "two")

	waitFor(t, "save seen by Prometheus", func() bool {
		seen, err := server.Query("histogram_count(skyagent_visible_seconds) > 0 and on (instance) skyagent:lag_generations{mode='copy'} == 0")
		return err == nil && len(seen) == 1
	})
	for _, q := range append(dashboardQueries(t), ruleQueries(t)...) {
		if err := ask(server.PrometheusAPI, known, q.expr); err != nil {
			t.Errorf("%s: %v\n%s", q.where, err, q.expr)
		}
	}
	stop(t, replica, watch)
}

// ask parses an expression, checks what it names and runs it.
func ask(server servers.PrometheusAPI, known inventory, expr string) error {
	tree, err := server.Parse(expr)
	if err != nil {
		return err
	}
	named := selectors(tree)
	if len(named) == 0 {
		return fmt.Errorf("it names no series")
	}
	for _, s := range named {
		if err := known.check(s); err != nil {
			return err
		}
	}
	_, err = server.Query(expr)
	return err
}

// checkPage lets promtool judge what a process exports.
func checkPage(t *testing.T, p *program.Process) {
	t.Helper()
	url, _ := p.Ready()["metrics"].(string)
	resp, err := http.Get(url)
	must(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	must(t, err)
	cmd := exec.Command(servers.Promtool(t), "check", "metrics")
	cmd.Stdin = strings.NewReader(string(page))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// scrapeConfig is Prometheus's configuration, hastier than anybody's.
func scrapeConfig(t *testing.T, agents []*program.Process) string {
	t.Helper()
	rules, err := filepath.Abs(rulesDir)
	must(t, err)
	var targets []string
	for _, p := range agents {
		url, _ := p.Ready()["metrics"].(string)
		targets = append(targets, strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/metrics"))
	}
	return fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s, scrape_native_histograms: true}
rule_files: [%q]
scrape_configs:
  - job_name: skyagent
    static_configs: [{targets: [%s]}]
`, filepath.Join(rules, "*.yml"), strings.Join(targets, ", "))
}
