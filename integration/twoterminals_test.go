package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
)

// TestTwoTerminals is the session of the README: no configuration at all.
func TestTwoTerminals(t *testing.T) {
	t.Parallel()
	program.Short(t)
	home := program.NewHome(t)
	source := filepath.Join(t.TempDir(), "datasets")
	replica := filepath.Join(t.TempDir(), "replica")
	write(t, filepath.Join(source, "hello.txt"), "hello")
	watch := home.StartText(t, "watch", source, "--metrics", "127.0.0.1:0")
	watch.WaitText("watching "+source, "datasets: 1 file, 5 B (generation 1)")
	copier := home.StartText(t, "copy", "datasets", replica, "--metrics", "127.0.0.1:0")
	copier.WaitText("following datasets", replica, "1 file, 5 B (generation 1)")
	if read(t, filepath.Join(replica, "hello.txt")) != "hello" {
		t.Fatal("the replica has no hello.txt")
	}
	events := home.Start(t, "events", "datasets")
	n := 0
	waitFor(t, "event", func() bool { // the subscription takes its time
		n++
		write(t, filepath.Join(source, "hello.txt"), strings.Repeat("x", n))
		return len(events.Lines()) > 0
	})
	waitSame(t, source, replica)
	write(t, filepath.Join(source, "saved.txt"), "saved")
	began := time.Now()
	waitSame(t, source, replica)
	t.Logf("a saved file was seen after %s", time.Since(began).Round(time.Millisecond))
	watch.WaitText("generation ", "5 B uploaded")
	copier.WaitText("generation ", "in place")
	e := events.Wait("the event of the save", func(v map[string]any) bool {
		changes, _ := v["changes"].([]any)
		return len(changes) == 1 && changes[0].(map[string]any)["path"] == "saved.txt"
	})
	for _, field := range []string{"storage", "source", "epoch", "generation", "prev", "commit", "writer", "time", "count", "changes"} {
		if _, ok := e[field]; !ok {
			t.Errorf("event without %q: %v", field, e)
		}
	}
	var st status
	waitFor(t, "status", func() bool {
		st = statusOf(t, home, "datasets")
		return len(st.Sources) == 1 && st.Sources[0].State == "READY" && len(st.Workers) == 1 && st.Workers[0].State == "READY" && st.Workers[0].Lag == 0
	}, func() any { return st })
	text := home.Run(t, "status")
	for _, w := range []string{"datasets: generation", "READY", source, replica} {
		if !strings.Contains(text.Stdout, w) {
			t.Errorf("no %q in status:\n%s", w, text.Stdout)
		}
	}
	if text.Stderr != "" {
		t.Errorf("status said: %s", text.Stderr)
	}

	// Ctrl-C uploads what was just written.
	write(t, filepath.Join(source, "last.txt"), "last")
	stop(t, watch)
	if got := read(t, filepath.Join(home.Dir, "data/buckets/datasets/last.txt")); got != "last" {
		t.Errorf("after Ctrl-C the bucket has %q of what was just written", got)
	}
	stop(t, copier, events)
	for _, p := range []*program.Process{watch, copier, events} {
		if said := p.Stderr(); strings.Contains(said, "panic") || strings.Contains(said, "error:") {
			t.Errorf("said: %s", said)
		}
	}
}

// TestCopyFirst starts the copy before the watch.
func TestCopyFirst(t *testing.T) {
	t.Parallel()
	program.Short(t)
	home := program.NewHome(t)
	source := filepath.Join(t.TempDir(), "later")
	replica := t.TempDir()
	write(t, filepath.Join(source, "a"), "x")
	wantWords(t, home.Run(t, "copy", "later", replica), 1, "start skyagent watch first", `no storage "later" on this machine`)
	bucket := filepath.Join(home.Dir, "data/buckets/later")
	must(t, os.MkdirAll(bucket, 0o755)) // a bucket that is there and empty is waited at
	copier := home.Start(t, "copy", "file://"+bucket, replica, "--metrics", "off")
	watch := home.Start(t, "watch", source, "--metrics", "off")
	watch.Ready()
	copier.Ready()
	waitSame(t, source, replica)

	// The watch is restarted: the copy goes on by the new one's bus.
	stop(t, watch)
	write(t, filepath.Join(source, "a"), "while nobody watched")
	watch = home.Start(t, "watch", source, "--metrics", "off")
	watch.Ready()
	waitSame(t, source, replica)
	stop(t, watch, copier)
}

// TestBusTakenOver has two watches on one machine: the second uses the first's
// bus, and runs it when the first ends.
func TestBusTakenOver(t *testing.T) {
	t.Parallel()
	program.Short(t)
	home := program.NewHome(t)
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	replica := t.TempDir()
	write(t, filepath.Join(one, "a"), "1")
	write(t, filepath.Join(two, "b"), "2")
	first := home.Start(t, "watch", one, "--metrics", "off")
	first.Ready()
	second := home.Start(t, "watch", two, "--metrics", "off")
	second.Ready()
	// It polls so rarely that only events explain what it sees.
	copier := home.Start(t, "copy", "two", replica, "--metrics", "127.0.0.1:0", "--poll", "10m")
	copier.Ready()
	write(t, filepath.Join(two, "b"), "by the first's bus")
	waitSame(t, two, replica)
	address := read(t, filepath.Join(home.Dir, "run/bus.json"))

	stop(t, first)
	waitFor(t, "another owner of the bus", func() bool {
		now := read(t, filepath.Join(home.Dir, "run/bus.json"))
		return now != "" && now != address
	})
	write(t, filepath.Join(two, "b"), "by the second's bus")
	took := waitSame(t, two, replica)
	waitFor(t, "status", func() bool {
		st := statusOf(t, home, "two")
		return st.Bus && len(st.Sources) == 1 && st.Sources[0].State == "READY"
	})
	before := metrics(t, copier)["skyagent_bus_delivered_total"]
	write(t, filepath.Join(two, "b"), "by event")
	waitSame(t, two, replica)
	if metrics(t, copier)["skyagent_bus_delivered_total"] <= before {
		t.Error("no event came over the second's bus")
	}
	t.Logf("seen %s after the bus had changed hands", took.Round(time.Millisecond))
	stop(t, copier, second)
}
