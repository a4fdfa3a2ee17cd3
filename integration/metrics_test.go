package integration_test

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
)

// metrics returns what a process counts, by name and labels as they are written.
func metrics(t *testing.T, p *program.Process) map[string]float64 {
	t.Helper()
	url, _ := p.Ready()["metrics"].(string)
	resp, err := http.Get(url)
	must(t, err)
	defer resp.Body.Close()
	values := make(map[string]float64)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			values[name] = v
		}
	}
	must(t, lines.Err())
	return values
}

// dropped returns how many events a process dropped for a reason.
func dropped(t *testing.T, p *program.Process, reason string) float64 {
	t.Helper()
	return metrics(t, p)[`skyagent_bus_dropped_total{reason="`+reason+`"}`]
}
