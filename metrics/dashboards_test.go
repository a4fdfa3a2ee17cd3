package metrics_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A dashboard is what Grafana reads, as far as we rely on it. Whether the
// queries are right is for package integration, which asks Prometheus.
type dashboard struct {
	UID, Title, Description string
	SchemaVersion           int
	Tags                    []string
	Panels                  []panel
	Templating              struct{ List []variable }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               source
	Targets                  []struct {
		RefID, Expr string
		Datasource  *source
	}
}

type source struct{ Type, UID string }

type variable struct {
	Name, Type string
	Datasource source
}

// dashboards returns those of this package by file name.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	return all
}

func TestDashboardsAreWhole(t *testing.T) {
	for name, d := range dashboards(t) {
		if d.UID != "skyagent-"+name || d.Title == "" || d.Description == "" || d.SchemaVersion < 39 || !slices.Contains(d.Tags, "skyagent") {
			t.Errorf("%s: uid %q, title %q, schema %d, tags %q", name, d.UID, d.Title, d.SchemaVersion, d.Tags)
		}
		if i := slices.IndexFunc(d.Templating.List, func(v variable) bool { return v.Name == "datasource" }); i != 0 {
			t.Errorf("%s: the first variable is not the datasource that the others need", name)
		}
		for i, p := range d.Panels {
			checkPanel(t, name, p)
			for _, q := range d.Panels[:i] {
				if p.ID == q.ID || overlap(p, q) {
					t.Errorf("%s: panels %q and %q share an id or a place", name, q.Title, p.Title)
				}
			}
		}
	}
}

func checkPanel(t *testing.T, name string, p panel) {
	t.Helper()
	pos := p.GridPos
	if pos.X < 0 || pos.W < 1 || pos.X+pos.W > 24 || pos.H < 1 || p.Title == "" {
		t.Errorf("%s: panel %q is at %+v", name, p.Title, pos)
	}
	if p.Type == "row" {
		return
	}
	chosen := source{"prometheus", "${datasource}"}
	if len(p.Targets) == 0 || p.Description == "" || p.Datasource != chosen {
		t.Errorf("%s: panel %q has no query, no description or its own datasource", name, p.Title)
	}
	var refs []string
	for _, target := range p.Targets {
		if target.Expr == "" || target.Datasource == nil || *target.Datasource != chosen || slices.Contains(refs, target.RefID) {
			t.Errorf("%s: panel %q: query %s is incomplete", name, p.Title, target.RefID)
		}
		refs = append(refs, target.RefID)
	}
}

func overlap(p, q panel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// TestEveryMetricIsShown wants no number that nobody can look at.
func TestEveryMetricIsShown(t *testing.T) {
	var shown bytes.Buffer
	for _, pattern := range []string{"dashboards/*.json", "rules/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			shown.Write(b)
		}
	}
	for _, r := range full().Rows() {
		if !strings.Contains(shown.String(), r.Name) {
			t.Errorf("%s is on no dashboard and in no rule", r.Name)
		}
	}
}
