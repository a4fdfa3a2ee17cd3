package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// BenchmarkPlainMount measures, over ssh on loopback, how long a tree takes to a
// host the first time, and how long one file that is saved in it then takes
// until the host has it; and beside it one rsync of the same file alone, with a
// connection of its own.
func BenchmarkPlainMount(b *testing.B) {
	sshd, home := servers.Sshd(b), program.NewHome(b)
	tree := copyOfGoTree(b)
	task := filepath.Join(home.Dir, "task.yaml")
	target := filepath.Join(sshd.Dir, "target")
	saveFile(b, task, fmt.Sprintf("file_mounts:\n  %s: %s\n", target, tree))
	began := time.Now()
	watch := home.Start(b, "watch", "-f", task, "--host", sshd.Host, "--ssh-config", sshd.Config, "--metrics", "off")
	first := watch.Wait("first pass", func(v map[string]any) bool { return v["first"] == true })
	b.Logf("first: %.0f paths in %v", first["sent"], time.Since(began).Round(time.Millisecond))
	saved, there := filepath.Join(tree, "saved"), filepath.Join(target, "saved")
	for b.Loop() {
		var ours, raw []time.Duration
		for i := range pairs {
			content := fmt.Sprint("save ", i)
			began := time.Now()
			saveFile(b, saved, content)
			waitForContent(b, there, content)
			ours = append(ours, time.Since(began))
			raw = append(raw, timeOf(b, rsyncOf(sshd, saved, filepath.Join(sshd.Dir, "alone"))))
		}
		slices.Sort(ours)
		slices.Sort(raw)
		b.ReportMetric(ms(percentile(ours, 50)), "saved-ms")
		b.ReportMetric(ms(percentile(raw, 50)), "rsync-ms")
		b.ReportMetric(ms(percentile(ours, 50))/ms(percentile(raw, 50)), "saved/rsync")
		b.Logf("a saved file: median %s, longest %s; one rsync of it alone: %s", percentile(ours, 50), ours[pairs-1], percentile(raw, 50))
	}
}

func rsyncOf(sshd *servers.SSHServer, from, to string) *exec.Cmd {
	return exec.Command("rsync", "-a", "--ignore-times", "-e", "ssh -F "+sshd.Config, from, sshd.Host+":"+to)
}

func saveFile(b *testing.B, name, content string) {
	b.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

// waitForContent looks every millisecond.
func waitForContent(b *testing.B, name, content string) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < program.Patience; <-tick.C {
		if got, err := os.ReadFile(name); err == nil && string(got) == content {
			return
		}
	}
	b.Fatalf("%s has not got %q", name, content)
}
