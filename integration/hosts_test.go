//go:build unix

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// TestPlainMounts is the document's "/datasets: ~/datasets": watch -f sends a
// task's file mounts without a bucket to hosts, and what changes in them, while
// its storage goes to the bucket; sync -f does the same once.
func TestPlainMounts(t *testing.T) {
	t.Parallel()
	program.Short(t)
	r := newRig(t)
	sshd, away := servers.Sshd(t), servers.Sshd(t)
	away.Stop()
	write(t, filepath.Join(r.source, "datasets/a b"), "one")
	write(t, filepath.Join(r.source, "train.py"), "train")
	must(t, os.Symlink("a b", filepath.Join(r.source, "datasets/link")))
	task := filepath.Join(r.home.Dir, "task.yaml")
	write(t, task, fmt.Sprintf(`
file_mounts:
  %[1]s/on host/datasets: %[2]s/datasets
  ~/main.py: %[2]s/train.py
  /copy: {name: %[3]s-copy, source: %[2]s/datasets, store: s3, mode: COPY}
`, sshd.Dir, r.source, r.bucket))
	config := filepath.Join(r.home.Dir, "config")
	must(t, os.WriteFile(config, []byte(sshd.ClientConfig("vm")+away.ClientConfig("away")), 0o600))
	args := []string{"-f", task, "--host", "vm", "--ssh-config", config}
	watch := r.live(t, append([]string{"watch"}, append(args, "--host", "away")...))
	onHost := func(name string) string { return filepath.Join(sshd.Dir, name) }
	want := func(name, content string) {
		t.Helper()
		waitFor(t, name+" with "+content, func() bool { return read(t, onHost(name)) == content })
	}
	want("on host/datasets/a b", "one")
	want("main.py", "train")
	if to, err := os.Readlink(onHost("on host/datasets/link")); to != "a b" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	write(t, filepath.Join(r.source, "datasets/a b"), "two")
	write(t, filepath.Join(r.source, "train.py"), "train better")
	want("on host/datasets/a b", "two")
	want("main.py", "train better")
	waitFor(t, "object", func() bool { return read(t, filepath.Join(r.server.Dir, r.bucket+"-copy", "a b")) == "two" })

	watch.Wait("failure", func(v map[string]any) bool {
		words, _ := v["error"].(string)
		return v["host"] == "away" && strings.Contains(words, "Connection refused") && v["retry_seconds"].(float64) > 0
	})
	st := r.home.Run(t, "status")
	for _, words := range []string{"  vm  ", "READY", "  away  ", "Connection refused"} {
		if !strings.Contains(st.Stdout, words) {
			t.Errorf("no %q in the status\n%s%s", words, st.Stdout, st.Stderr)
		}
	}
	away.Start(t)
	waitFor(t, "the other host", func() bool { return read(t, filepath.Join(away.Dir, "main.py")) == "train better" })
	stop(t, watch)

	must(t, os.Remove(filepath.Join(r.source, "datasets/a b")))
	write(t, filepath.Join(r.source, "datasets/c"), "three")
	r.home.MustRun(t, append([]string{"sync"}, args...)...)
	want("on host/datasets/c", "three")
	want("on host/datasets/a b", "")
	sshd.Stop()
	down := r.home.Run(t, append([]string{"sync", "-q"}, args...)...)
	if down.Code != 1 || strings.Count(down.Stderr, "error: host vm: ") != 2 || strings.Count(down.Stderr, "hint: check that the host is up") != 2 {
		t.Errorf("exit %d\n%s", down.Code, down.Stderr)
	}
	wantWords(t, r.home.Run(t, "sync", r.source, "--to", r.url, "--host", "vm"), 2, "name its file with -f", "--host is for the file mounts of a task")
}
