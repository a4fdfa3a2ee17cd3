package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	dashboardsDir = "../metrics/dashboards"
	rulesDir      = "../metrics/rules"
)

// A query is one expression that a person or an alert relies on.
type query struct{ where, expr string }

// concrete replaces what Grafana fills in.
var concrete = strings.NewReplacer("$storage", ".*", "$instance", ".*", "$__rate_interval", "1m")

// dashboardQueries returns the queries of all dashboards, variables included.
func dashboardQueries(t *testing.T) (queries []query) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dashboardsDir, "*.json"))
	must(t, err)
	for _, file := range files {
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
			Templating struct {
				List []struct{ Name, Type, Definition string }
			}
		}
		b, err := os.ReadFile(file)
		must(t, err)
		must(t, json.Unmarshal(b, &d))
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				queries = append(queries, query{d.Title + ": $" + v.Name, seriesOf(t, v.Definition)})
			}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				queries = append(queries, query{d.Title + ": " + p.Title, concrete.Replace(target.Expr)})
			}
		}
	}
	if len(queries) == 0 {
		t.Fatal("no dashboard has a query")
	}
	return queries
}

// seriesOf returns the series of Grafana's label_values(SERIES, LABEL).
func seriesOf(t *testing.T, definition string) string {
	t.Helper()
	rest, ok := strings.CutPrefix(definition, "label_values(")
	end := strings.LastIndex(rest, ",")
	if !ok || end < 0 {
		t.Fatalf("variable's query %q is no label_values(series, label)", definition)
	}
	return rest[:end]
}

// A rule of Prometheus's, of either kind.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (rules []rule) {
	t.Helper()
	for _, file := range ruleFiles(t) {
		var f struct{ Groups []struct{ Rules []rule } }
		readYAML(t, file, &f)
		for _, g := range f.Groups {
			rules = append(rules, g.Rules...)
		}
	}
	return rules
}

func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rulesDir, "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules in %s: %v", rulesDir, err)
	}
	return files
}

func ruleQueries(t *testing.T) (queries []query) {
	t.Helper()
	for _, r := range rules(t) {
		queries = append(queries, query{"rule " + r.Record + r.Alert, r.Expr})
	}
	return queries
}

func readYAML(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	if err := yaml.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// A selector is a place in an expression where series are named.
type selector struct {
	name   string
	labels []string // that it asks for
}

// selectors finds those of a syntax tree.
func selectors(tree any) (found []selector) {
	switch n := tree.(type) {
	case []any:
		for _, sub := range n {
			found = append(found, selectors(sub)...)
		}
	case map[string]any:
		if n["type"] == "vectorSelector" || n["type"] == "matrixSelector" {
			return []selector{selectorOf(n)}
		}
		for _, sub := range n {
			found = append(found, selectors(sub)...)
		}
	}
	return found
}

func selectorOf(node map[string]any) (s selector) {
	s.name, _ = node["name"].(string)
	matchers, _ := node["matchers"].([]any)
	for _, m := range matchers {
		if name, _ := m.(map[string]any)["name"].(string); name != "__name__" {
			s.labels = append(s.labels, name)
		}
	}
	return s
}

// An inventory has the labels of every series that can be asked for.
type inventory map[string][]string

// addPage adds what a process exports, and what a server makes of it: a native
// histogram has the name without _bucket.
func (i inventory) addPage(page map[string]float64) {
	for series := range page {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		names := []string{name}
		if base, ok := strings.CutSuffix(name, "_bucket"); ok {
			names = append(names, base)
		}
		for _, n := range names {
			i[n] = append(i[n], labelNames(labels)...)
			slices.Sort(i[n])
			i[n] = slices.Compact(i[n])
		}
	}
}

// labelNames returns the names in a="b",c="d"; no value of ours has a comma
// and a quote in it.
func labelNames(labels string) (names []string) {
	for pair := range strings.SplitSeq(labels, `",`) {
		if name, _, ok := strings.Cut(pair, "="); ok {
			names = append(names, name)
		}
	}
	return names
}

// addRules adds what the recording rules make. They keep labels freely.
func (i inventory) addRules(rules []rule) {
	for _, r := range rules {
		if r.Record != "" {
			i[r.Record] = []string{"storage", "mode"}
		}
	}
}

// ofServer are the labels that a server puts on every series.
var ofServer = []string{"job", "instance"}

// check returns what a selector asks for and nobody has.
func (i inventory) check(s selector) error {
	if s.name == "" { // chosen by a pattern
		return nil
	}
	labels, ok := i[s.name]
	if !ok {
		return fmt.Errorf("nobody exports %s", s.name)
	}
	for _, l := range s.labels {
		if !slices.Contains(labels, l) && !slices.Contains(ofServer, l) {
			return fmt.Errorf("%s has no label %s", s.name, l)
		}
	}
	return nil
}
