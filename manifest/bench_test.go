package manifest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// goTree returns a real tree of some 12,000 files, which every Go toolchain has.
func goTree(b testing.TB) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// indexed returns an index that holds the tree at root as it is.
func indexed(b *testing.B, root, path string) *manifest.Index {
	b.Helper()
	x, err := manifest.OpenIndex(path)
	if err != nil {
		b.Fatal(err)
	}
	scan, err := manifest.ScanTree(b.Context(), root, x)
	if err != nil {
		b.Fatal(err)
	}
	var entries []manifest.Entry
	for _, d := range scan.Changed {
		f := manifest.File{Path: d.Path, Mode: d.Stat.Mode.Perm(), Size: d.Stat.Size, MTime: d.Stat.MTime, Hash: manifest.Sum([]byte(d.Path)), Rev: "0123456789abcdef0123456789abcdef"}
		if d.Stat.Mode.IsDir() {
			f = manifest.File{Path: d.Path, Mode: manifest.DirMode(d.Stat.Mode)}
		}
		entries = append(entries, manifest.Entry{File: f, Stat: d.Stat})
	}
	if err := x.Update(manifest.Position{Generation: 1}, entries, nil); err != nil {
		b.Fatal(err)
	}
	return x
}

func BenchmarkScanUnchanged(b *testing.B) {
	root := goTree(b)
	x := indexed(b, root, filepath.Join(b.TempDir(), "index"))
	defer x.Close()
	for b.Loop() {
		scan, err := manifest.ScanTree(b.Context(), root, x)
		if err != nil || len(scan.Changed) > 0 || len(scan.Gone) > 0 {
			b.Fatal(err, len(scan.Changed), len(scan.Gone))
		}
	}
	b.ReportMetric(float64(x.Files().Len()), "entries")
}

func BenchmarkOpenIndex(b *testing.B) {
	path := filepath.Join(b.TempDir(), "index")
	x := indexed(b, goTree(b), path)
	n := x.Files().Len()
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x, err := manifest.OpenIndex(path)
		if err != nil || x.Files().Len() != n {
			b.Fatal(err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if fi, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(fi.Size())/float64(n), "B/entry")
	}
}
