package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// A bucket of R2's, all the way: a delta of a big file by parts of one size, a
// rename, a deletion, and a replica that follows. The server fails the test of
// a request that R2 would not take.
func TestR2(t *testing.T) {
	program.Short(t)
	server := servers.R2(t)
	home := program.NewHome(t)
	// Amazon's variables must not matter.
	home.Env = append(append(home.Env, server.Environ()...), "AWS_ENDPOINT_URL_S3=http://127.0.0.1:1", "AWS_PROFILE=nobody")
	source, replica := t.TempDir(), t.TempDir()
	bucket := server.NewBucket(t)
	big := filepath.Join(source, "big.bin")
	content := make([]byte, 40<<20)
	for i := range content {
		content[i] = byte(i * i >> 9)
	}
	must(t, os.WriteFile(big, content, 0o644))
	write(t, filepath.Join(source, "small/a.txt"), "a")
	write(t, filepath.Join(source, "small/b.txt"), "b")
	sync := func() map[string]any {
		t.Helper()
		return home.MustRun(t, "sync", source, "--store", "r2", "--name", bucket)
	}
	sync()

	content[20<<20]++
	content = append(content, "and more"...)
	must(t, os.WriteFile(big, content, 0o644))
	must(t, os.Rename(filepath.Join(source, "small/a.txt"), filepath.Join(source, "moved.txt")))
	must(t, os.Remove(filepath.Join(source, "small/b.txt")))
	line := sync()
	if reused := line["reused_bytes"].(float64); reused < 16<<20 {
		t.Errorf("a changed byte: %v", line)
	}
	home.MustRun(t, "copy", "r2://"+bucket, replica, "--once")
	if read(t, filepath.Join(replica, "big.bin")) != string(content) || read(t, filepath.Join(replica, "moved.txt")) != "a" {
		t.Error("the replica differs")
	}
	if got := listed(filepath.Join(replica, "small")); len(got) != 0 {
		t.Errorf("the replica keeps %q", got)
	}
}
