package integration_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/integration/servers"
)

// A composeFile is docker-compose.yml as far as other files depend on it.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Volumes     []string
		Environment map[string]string
	}
}

// A grafanaDatasources is a file of Grafana's provisioning of data sources.
type grafanaDatasources struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		IsDefault                    bool `yaml:"isDefault"`
		JSONData                     struct {
			TimeInterval string `yaml:"timeInterval"`
		} `yaml:"jsonData"`
	}
}

// A grafanaProviders is a file of Grafana's provisioning of dashboards.
type grafanaProviders struct {
	APIVersion int `yaml:"apiVersion"`
	Providers  []struct {
		Name, Folder, Type string
		DisableDeletion    bool `yaml:"disableDeletion"`
		Options            struct{ Path string }
	}
}

// TestGrafanaFindsTheDashboards follows Grafana's own files: no key that it does
// not know, one default data source, and a path where the dashboards are.
func TestGrafanaFindsTheDashboards(t *testing.T) {
	t.Parallel()
	var compose composeFile
	readYAML(t, "../docker-compose.yml", &compose)
	grafana := compose.Services["grafana"]
	mounted := map[string]string{} // what is where, in the container
	for _, v := range grafana.Volumes {
		if parts := strings.Split(v, ":"); strings.HasPrefix(v, "./") {
			mounted[parts[1]] = filepath.Join("..", parts[0])
		}
	}

	var sources grafanaDatasources
	readStrict(t, mounted["/etc/grafana/provisioning/datasources/skyagent.yml"], &sources)
	if ds := sources.Datasources; sources.APIVersion != 1 || len(ds) != 1 || ds[0].Type != "prometheus" || !ds[0].IsDefault || ds[0].URL != "http://prometheus:9090" {
		t.Errorf("data sources: %+v", sources)
	}
	var providers grafanaProviders
	readStrict(t, mounted["/etc/grafana/provisioning/dashboards/skyagent.yml"], &providers)
	if providers.APIVersion != 1 || len(providers.Providers) != 1 || providers.Providers[0].Type != "file" {
		t.Fatalf("providers: %+v", providers)
	}
	path := providers.Providers[0].Options.Path
	if found, _ := filepath.Glob(filepath.Join(mounted[path], "*.json")); mounted[path] == "" || len(found) == 0 {
		t.Errorf("no dashboards at %s", path)
	}
	home := grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if _, err := os.Stat(filepath.Join(mounted[filepath.Dir(home)], filepath.Base(home))); err != nil {
		t.Errorf("home dashboard: %v", err)
	}
}

// readStrict reads a file that may have no key that v has not.
func readStrict(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestComposeFile looks at what no run would notice.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	var compose composeFile
	readYAML(t, "../docker-compose.yml", &compose)
	for name, service := range compose.Services {
		_, tag, _ := strings.Cut(service.Image, ":")
		if tag == "" || tag == "latest" {
			t.Errorf("%s runs %s, whatever that is today", name, service.Image)
		}
		for _, v := range service.Volumes {
			if path, _, _ := strings.Cut(v, ":"); strings.HasPrefix(path, "./") {
				if _, err := os.Stat(filepath.Join("..", path)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// TestScrapeConfig wants Prometheus to know its own file, and to ask every agent.
func TestScrapeConfig(t *testing.T) {
	t.Parallel()
	const file = "../deploy/compose/prometheus.yml"
	checkWith(t, servers.Promtool(t), "check", "config", "--syntax-only", file)
	var compose composeFile
	readYAML(t, "../docker-compose.yml", &compose)
	var config struct {
		Scrape []struct {
			Job    string                       `yaml:"job_name"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, file, &config)
	targets := config.Scrape[0].Static[0].Targets
	for name, service := range compose.Services {
		if agent := service.Image == "skyagent:devel" && name != "servers"; agent != slices.Contains(targets, name+":9464") {
			t.Errorf("%s is an agent: %v, but of the targets %q", name, agent, targets)
		}
	}
}
