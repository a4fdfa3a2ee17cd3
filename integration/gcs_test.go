package integration_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
)

// TestGCS syncs a tree into a bucket of Google Cloud Storage and copies it out
// again, changes it, and does both once more.
func TestGCS(t *testing.T) {
	server, home := servers.GCS(t), program.NewHome(t)
	home.Env = append(home.Env, server.Environ()...)
	bucket := server.NewBucket(t)
	url := "gs://" + bucket + "/team-a"
	source, replica := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"a.txt": "a", "empty": "", "dir/b c.txt": "b", "dir/deep/ünï+%2F.txt": "c", "gone": "gone",
		"chunk.bin": strings.Repeat("0123456789", 100_000),    // more than one buffer
		"large.bin": strings.Repeat("0123456789a", 3_000_000), // more than one chunk
	} {
		write(t, filepath.Join(source, filepath.FromSlash(name)), content)
	}
	cycle := func() {
		t.Helper()
		home.MustRun(t, "sync", source, "--to", url)
		home.MustRun(t, "copy", url, replica, "--once")
		if d := differences(source, replica); d != nil {
			t.Fatalf("after a sync and a copy:\n%s", strings.Join(d, "\n"))
		}
	}
	cycle()

	write(t, filepath.Join(source, "a.txt"), "another a")
	f, err := os.OpenFile(filepath.Join(source, "large.bin"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("more")
	must(t, err)
	must(t, f.Close())
	must(t, os.Remove(filepath.Join(source, "gone")))
	must(t, os.Rename(filepath.Join(source, "chunk.bin"), filepath.Join(source, "renamed.bin")))
	cycle()

	before := server.Uploaded()
	cycle()
	if sent := server.Uploaded() - before; sent > 4<<10 {
		t.Errorf("%d bytes were sent though nothing changed", sent)
	}
	plainInBucket(t, server.Endpoint, bucket, "team-a/dir/b c.txt", "b")
}

// plainInBucket checks that an object is the file's bytes, for every tool.
func plainInBucket(t *testing.T, endpoint, bucket, key, want string) {
	t.Helper()
	s, err := gcs.New(t.Context(), gcs.Config{Bucket: bucket, Endpoint: endpoint})
	must(t, err)
	body, info, err := s.Get(t.Context(), key, 0, -1, objstore.Cond{})
	must(t, err)
	defer body.Close()
	if got, err := io.ReadAll(body); string(got) != want || info.Size != int64(len(want)) {
		t.Errorf("%s holds %q, %v", key, got, err)
	}
}

// TestGCSWords checks what a person is told who has no bucket, or no rights.
func TestGCSWords(t *testing.T) {
	server, home := servers.GCS(t), program.NewHome(t)
	source := t.TempDir()
	write(t, filepath.Join(source, "a"), "a")
	home.Env = append(home.Env, server.Environ()...)
	r := home.Run(t, "sync", source, "--to", "gs://no-such-bucket")
	wantWords(t, r, 1, "gcloud storage buckets create gs://no-such-bucket", "bucket gs://no-such-bucket: no such bucket")
	home.Env = append(home.Env, "STORAGE_EMULATOR_HOST=", "GOOGLE_APPLICATION_CREDENTIALS=", "HOME="+home.Dir)
	r = home.Run(t, "sync", source, "--to", "gs://bucket")
	wantWords(t, r, 1, "gcloud auth application-default login", "gs://bucket: no Google Cloud credentials found")
}
