package storage_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

func TestLabels(t *testing.T) {
	home := t.TempDir()
	elsewhere := filepath.Join(home, "elsewhere.yaml")
	none := func(string) (string, bool) { return "", false }
	named := func(string) (string, bool) { return elsewhere, true }
	check := func(store storage.Store, env func(string) (string, bool), want map[string]string) {
		t.Helper()
		if got, err := storage.Labels(store, env, home); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	check(storage.S3, none, nil)
	put := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(home, ".sky", "config.yaml"), "jobs: {bucket: s3://b}\naws:\n  vpc_name: v\n  labels:\n    team: vision\n    cost: 7\n")
	put(elsewhere, "gcp: {labels: {a: b}}\n")
	check(storage.S3, none, map[string]string{"team": "vision", "cost": "7"})
	check(storage.S3, named, nil)
	check(storage.R2, none, nil)
	put(elsewhere, "aws: {labels: [a]}\n")
	if _, err := storage.Labels(storage.S3, named, home); err == nil {
		t.Error("a list was taken for labels")
	}
}
