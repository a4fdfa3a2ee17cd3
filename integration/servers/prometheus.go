package servers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Prometheus finds its targets in its configuration alone: without the clients
// of every cloud it is built in a third of the time.
var (
	prometheus = tool{name: "prometheus", pkg: "github.com/prometheus/prometheus/cmd/prometheus", version: "v0.316.0",
		tags: "remove_all_sd", static: true}
	promtool = tool{name: "promtool", pkg: "github.com/prometheus/prometheus/cmd/promtool", version: prometheus.version,
		tags: prometheus.tags, static: true}
)

// Promtool returns the path of Prometheus's checker of rules and metrics.
func Promtool(t testing.TB) string { return binary(t, promtool) }

// A PrometheusServer is a Prometheus of the test's own.
type PrometheusServer struct {
	PrometheusAPI

	*process
}

// Prometheus starts a server with a configuration, which ends with the test.
func Prometheus(t testing.TB, config string) *PrometheusServer {
	t.Helper()
	path := binary(t, prometheus)
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, func(addr string) *process {
		return &process{
			path: path, addr: addr, ready: servesPrometheus, env: environ(),
			args: []string{"--config.file=" + file, "--storage.tsdb.path=" + t.TempDir(), "--web.listen-address=" + addr},
		}
	})
	return &PrometheusServer{PrometheusAPI{"http://" + p.addr}, p}
}

func servesPrometheus(addr string) error {
	status, err := statusOf("http://" + addr + "/-/ready")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("readiness is %d", status)
	}
	return err
}

// A PrometheusAPI asks a Prometheus over HTTP.
type PrometheusAPI struct{ URL string }

// A Sample is one series of an answer, and its newest value: a string of a
// number, or nothing for a native histogram.
type Sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// Query returns what an expression is now.
func (p PrometheusAPI) Query(expr string) (samples []Sample, err error) {
	var answer struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := p.get("query", url.Values{"query": {expr}}, &answer); err != nil {
		return nil, err
	}
	if answer.Type != "vector" {
		return nil, fmt.Errorf("%s is a %s, not a vector", expr, answer.Type)
	}
	return samples, json.Unmarshal(answer.Result, &samples)
}

// Parse returns the syntax tree of an expression, as Prometheus's own parser
// sees it.
func (p PrometheusAPI) Parse(expr string) (tree any, err error) {
	return tree, p.get("parse_query", url.Values{"query": {expr}}, &tree)
}

// get asks one endpoint of the API, and decodes its data.
func (p PrometheusAPI) get(endpoint string, args url.Values, data any) error {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(p.URL + "/api/v1/" + endpoint + "?" + args.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Error string `json:"error"`
		Data  any    `json:"data"`
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", endpoint, resp.Status, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", endpoint, answer.Error)
	}
	return nil
}

// An Image is a server as docker-compose.yml names it, and the program of it
// that runs in an image of nothing else.
type Image struct{ Name, Program, Entrypoint string }

// Images returns the servers of the stack that the Go tool can build.
func Images(t testing.TB) []Image {
	t.Helper()
	return []Image{
		{"nats:" + strings.TrimPrefix(natsServer.version, "v"), binary(t, natsServer), "/bin/nats-server"},
		{"versity/versitygw:" + versitygw.version, binary(t, versitygw), "/bin/versitygw"},
		{"prom/prometheus:" + strings.Replace(prometheus.version, "v0.3", "v3.", 1), binary(t, prometheus), "/bin/prometheus"},
	}
}
