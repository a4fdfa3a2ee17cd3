package integration_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
)

// TestKubernetesManifests has them read strictly, by Kubernetes' own types.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	program.Short(t)
	check := filepath.Join(t.TempDir(), "kubecheck")
	build := exec.Command("go", "build", "-o", check, ".")
	build.Dir = "kubecheck"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kubecheck: %v\n%s", err, out)
	}
	files, err := filepath.Glob("../deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	checkWith(t, check, files...)

	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	write(t, wrong, strings.Replace(read(t, files[0]), "spec:", "specs:", 1))
	if exec.Command(check, wrong).Run() == nil {
		t.Error("a manifest with a wrong key passes")
	}
}
