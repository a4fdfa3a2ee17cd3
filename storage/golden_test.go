package storage_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The document's own examples, as they are read.
func TestDocument(t *testing.T) {
	b := newBench(t)
	if err := os.Mkdir(filepath.Join(b.home, "dataset"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.opts.Credentials = []storage.Credential{{Store: storage.S3, Where: "AWS_PROFILE"}}
	goldens(t, "document", func(name string, content []byte) string {
		task, err := storage.Parse(name, content, b.opts)
		if err != nil {
			return err.Error()
		}
		var text strings.Builder
		for _, m := range task.Mounts {
			fmt.Fprintf(&text, "%d: %s %s", m.Line, m.Path, m.Mode)
			if m.Mode != storage.Rsync {
				fmt.Fprintf(&text, " of %s external=%t persistent=%t reason=%q", m.Location, m.External, m.Persistent, m.Reason)
			}
			for _, src := range m.Sources {
				fmt.Fprintf(&text, "\n    %s dir=%t at=%q", strings.Replace(src.Path, b.home, "~", 1), src.Dir, src.At)
			}
			text.WriteString("\n")
		}
		for _, w := range task.Warnings {
			fmt.Fprintf(&text, "warning: %v\n", w)
		}
		return text.String()
	})
}

// All problems of a file at once, each on a line with its place and a hint.
func TestErrors(t *testing.T) {
	b := newBench(t)
	goldens(t, "errors", func(name string, content []byte) string {
		_, err := storage.Parse(name, content, b.opts)
		var problems storage.Problems
		if !errors.As(err, &problems) {
			t.Fatalf("%s: got %v", name, err)
		}
		var text strings.Builder
		for _, p := range problems {
			fmt.Fprintf(&text, "%v\n    hint: %s\n", p, p.Hint)
		}
		return text.String()
	})
}

func goldens(t *testing.T, dir string, read func(name string, content []byte) string) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := read(filepath.Base(file), content)
		golden := strings.TrimSuffix(file, ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s%v", file, got, want, err)
		}
	}
}
