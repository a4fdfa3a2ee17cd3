package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// pairs is how often the two commands of a comparison run, in turn.
const pairs = 15

// BenchmarkSecondSync compares a sync of an unchanged tree, through versitygw,
// with find(1) over the same tree, in turn: the whole process each.
func BenchmarkSecondSync(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	tree := copyOfGoTree(b)
	home := program.NewHome(b)
	url := "s3://" + server.NewBucket(b)
	first := home.MustRun(b, "sync", tree, "--to", url)
	b.Logf("first sync: %.0f files, %.0f bytes in %.2f s", first["files"], first["bytes"], first["seconds"])
	program.Binary(b)
	for b.Loop() {
		var ours, theirs []time.Duration
		for range pairs {
			theirs = append(theirs, timeOf(b, exec.Command("find", tree, "-printf", `%s %T@\n`)))
			ours = append(ours, timeOf(b, home.Command(b, "sync", tree, "--to", url)))
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		ratio := ms(percentile(ours, 50)) / ms(percentile(theirs, 50))
		b.ReportMetric(ms(percentile(ours, 50)), "sync-ms")
		b.ReportMetric(ms(percentile(theirs, 50)), "find-ms")
		b.ReportMetric(ratio, "sync/find")
		b.Logf("second sync: median %s (%s to %s), find %s (%s to %s): %.2f ×", percentile(ours, 50), ours[0], ours[pairs-1],
			percentile(theirs, 50), theirs[0], theirs[pairs-1], ratio)
	}
}

func timeOf(b *testing.B, cmd *exec.Cmd) time.Duration {
	b.Helper()
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return time.Since(began)
}

// copyOfGoTree returns a copy of the Go toolchain's own source: some 11,500 real files.
func copyOfGoTree(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	tree := filepath.Join(b.TempDir(), "src")
	if err := os.CopyFS(tree, os.DirFS(filepath.Join(strings.TrimSpace(string(out)), "src"))); err != nil {
		b.Fatal(err)
	}
	return tree
}
