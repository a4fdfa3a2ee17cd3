package integration_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

func TestRules(t *testing.T) {
	t.Parallel()
	promtool := servers.Promtool(t)
	checkWith(t, promtool, append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, ruleFiles(t)...)...)
	checkWith(t, promtool, "test", "rules", filepath.Join(rulesDir, "tests", "rules.yml"))
}

// TestEveryAlertIsTestedAndExplained wants each alert once without and once with
// a cause, and words for the person whom it wakes.
func TestEveryAlertIsTestedAndExplained(t *testing.T) {
	t.Parallel()
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name   string `yaml:"alertname"`
				Firing []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, filepath.Join(rulesDir, "tests", "rules.yml"), &tests)
	var comes, goes []string
	for _, test := range tests.Tests {
		for _, a := range test.Alerts {
			if len(a.Firing) > 0 {
				comes = append(comes, a.Name)
			} else {
				goes = append(goes, a.Name)
			}
		}
	}
	doc := read(t, "../docs/monitoring.md")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if _, row, _ := strings.Cut(doc, "| `"+r.Alert+"` |"); !strings.HasSuffix(strings.Split(row, "\n")[0], "| "+r.Labels["severity"]+" |") {
			t.Errorf("docs/monitoring.md does not have %s, with severity %q", r.Alert, r.Labels["severity"])
		}
		if !slices.Contains(comes, r.Alert) || !slices.Contains(goes, r.Alert) {
			t.Errorf("%s is not tested both ways", r.Alert)
		}
		if r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
			t.Errorf("%s does not say what happened and what to do", r.Alert)
		}
	}
}

// checkWith runs a checker that must be content.
func checkWith(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
}
