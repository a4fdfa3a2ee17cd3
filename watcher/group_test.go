package watcher_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/watcher"
)

// A group names what happens in its places by the source's paths, and what
// happens beside a single file not at all.
func TestGroup(t *testing.T) {
	dir := t.TempDir()
	datasets, mydir := filepath.Join(dir, "datasets"), filepath.Join(dir, "mydir")
	for _, d := range []string{datasets, filepath.Join(mydir, "deep")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(mydir, "f.txt"))
	tree := manifest.TreeOf(manifest.Place{Dir: datasets, At: "sets"}, manifest.Place{Dir: mydir, At: "f.txt", Only: true})
	g := watcher.NewGroup(tree, func() watcher.Options { return watcher.Options{} })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error)
	go func() { ended <- g.Run(ctx) }()
	if b, err := g.Next(ctx); err != nil || b.Rescan != "start" {
		t.Fatalf("first batch %+v, %v", b, err)
	}
	put(filepath.Join(mydir, "other"))
	put(filepath.Join(mydir, "deep", "other"))
	put(filepath.Join(datasets, "a"))
	put(filepath.Join(mydir, "f.txt"))
	var got []manifest.Path
	for !slices.Contains(got, "sets/a") || !slices.Contains(got, "f.txt") {
		b, err := g.Next(ctx)
		if err != nil {
			t.Fatalf("%v after %v", err, got)
		}
		got = append(got, b.Paths...)
	}
	for _, p := range got {
		if p != "sets/a" && p != "f.txt" {
			t.Errorf("named %s", p)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A place that is not there is an error at the start.
func TestGroupWithoutAPlace(t *testing.T) {
	dir := t.TempDir()
	tree := manifest.TreeOf(manifest.Place{Dir: dir, At: "a"}, manifest.Place{Dir: filepath.Join(dir, "absent"), At: "b"})
	g := watcher.NewGroup(tree, func() watcher.Options { return watcher.Options{} })
	if err := g.Run(t.Context()); err == nil {
		t.Error("watched a directory that is not there")
	}
}
