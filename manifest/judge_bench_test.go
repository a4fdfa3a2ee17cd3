//go:build unix

package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// typicalRules are as many lines, and of the kinds, as a template for Python has.
var typicalRules = strings.Repeat("__pycache__/\n*.py[cod]\n*.so\nbuilds/\n/dist/\n*.egg-info/\n.env\n!keep.env\ndocs/_build/\n**/checkpoints/*.pt\n", 12)

// BenchmarkScanWithRules compares scans of an unchanged tree, in turn: without
// rules, where there could be some, and with 120 lines that name nothing in it.
func BenchmarkScanWithRules(b *testing.B) {
	root := b.TempDir()
	if err := os.CopyFS(root, os.DirFS(goTree(b))); err != nil {
		b.Fatal(err)
	}
	ruled := filepath.Join(root, ".skyignore")
	write(b, "", ruled)
	x := indexed(b, root, filepath.Join(b.TempDir(), "index"))
	defer x.Close()
	took := map[string]time.Duration{}
	scan := func(name string, tree manifest.Tree) {
		began := time.Now()
		scan, err := tree.Scan(b.Context(), x)
		took[name] += time.Since(began)
		if err != nil || len(scan.Changed) > 1 || len(scan.Gone) > 0 || scan.Ignored > 0 {
			b.Fatal(err, len(scan.Changed), len(scan.Gone), scan.Ignored)
		}
	}
	for b.Loop() {
		for _, rules := range []string{"", typicalRules} {
			write(b, rules, ruled)
			scan("without", manifest.OneDir(root))
			scan("with"+rules, manifest.OneDir(root).Ignoring(ignore.New(ignore.Options{})))
		}
	}
	without := took["without"].Seconds() / 2
	b.ReportMetric(took["with"].Seconds()/without, "with-none/without")
	b.ReportMetric(took["with"+typicalRules].Seconds()/without, "with-120/without")
}
