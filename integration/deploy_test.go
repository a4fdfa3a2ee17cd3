package integration_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/integration/program"
)

// TestSchemas has Kubernetes manifests and Grafana dashboards read by the types
// of Kubernetes and Grafana, and each made wrong to see that they look.
func TestSchemas(t *testing.T) {
	t.Parallel()
	program.Short(t)
	schemas := filepath.Join(t.TempDir(), "schemas")
	build := exec.Command("go", "build", "-o", schemas, ".")
	build.Dir = "schemas"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build schemas: %v\n%s", err, out)
	}
	for pattern, key := range map[string]string{"../deploy/kubernetes/*.yaml": "spec:", dashboardsDir + "/*.json": `"targets":`} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		checkWith(t, schemas, files...)
		wrong := filepath.Join(t.TempDir(), "wrong"+filepath.Ext(pattern))
		write(t, wrong, strings.Replace(read(t, files[0]), key, strings.Replace(key, "s", "S", 1), 1))
		if exec.Command(schemas, wrong).Run() == nil {
			t.Errorf("%s with a wrong key passes", files[0])
		}
	}
}

var update = flag.Bool("update", false, "write deploy/kubernetes/rules.yaml anew")

// TestRulesAreDocumentedForKubernetes keeps the operator's form of the rules the
// same as the files that everybody else loads.
func TestRulesAreDocumentedForKubernetes(t *testing.T) {
	t.Parallel()
	const file = "../deploy/kubernetes/rules.yaml"
	var b bytes.Buffer
	b.WriteString("# metrics/rules for the Prometheus operator. make docs writes it.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	must(t, e.Encode(prometheusRule(t)))
	if *update {
		must(t, os.WriteFile(file, b.Bytes(), 0o644))
	}
	if read(t, file) != b.String() {
		t.Errorf("%s is not what metrics/rules says: run make docs", file)
	}
}

// prometheusRule returns all groups of rules as one resource.
func prometheusRule(t *testing.T) any {
	t.Helper()
	var groups []any
	for _, file := range ruleFiles(t) {
		var f struct{ Groups []any }
		readYAML(t, file, &f)
		groups = append(groups, f.Groups...)
	}
	return map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "skyagent", "labels": map[string]any{"app.kubernetes.io/name": "skyagent"}},
		"spec":     map[string]any{"groups": groups},
	}
}
