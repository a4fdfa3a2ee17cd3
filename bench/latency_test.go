package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/open"
)

const (
	saves    = 200
	saveSize = 4 << 10
	settling = 5 * time.Millisecond // what the settle rule takes by itself
)

// BenchmarkSaveToVisible measures from the start of a save of 4 KiB until the
// file is under its final name on a replica, through versitygw and the embedded
// bus, and the raw cost of the same steps in the same run: two PUTs of that
// size, one stored publish, one local write and rename.
func BenchmarkSaveToVisible(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	url := "s3://" + server.NewBucket(b)
	home := program.NewHome(b)
	source, replica := b.TempDir(), b.TempDir()
	watch := home.Start(b, "watch", source, "--to", url, "--metrics", "off")
	watch.Ready()
	home.Start(b, "copy", url, replica, "--metrics", "off").Ready()
	waitForBus(b, home)

	for b.Loop() {
		b.StopTimer()
		raw, hot := rawCosts(b, url, home)
		times := saveMany(b, source, replica)
		b.StartTimer()
		target := settling + raw*3/2
		p50, p99 := percentile(times, 50), percentile(times, 99)
		b.ReportMetric(ms(p50), "p50-ms")
		b.ReportMetric(ms(percentile(times, 90)), "p90-ms")
		b.ReportMetric(ms(p99), "p99-ms")
		b.ReportMetric(ms(raw), "raw-ms")
		b.ReportMetric(ms(p50)/ms(target), "p50/target")
		b.ReportMetric(ms(p50)/ms(settling+hot*3/2), "p50/hot-target")
		b.ReportMetric(ms(p99)/ms(p50), "p99/p50")
		b.Logf("save to visible over %d saves: p50 %s (target 5ms + 1.5 × raw after a pause %s = %s), p90 %s, p99 %s (%.1f × p50), max %s",
			saves, p50, raw, target, percentile(times, 90), p99, ms(p99)/ms(p50), times[len(times)-1])
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile returns the p-th percentile of sorted times.
func percentile(times []time.Duration, p int) time.Duration {
	return times[min(len(times)-1, len(times)*p/100)]
}

// saveMany saves files one after the other, each once the one before is
// visible, and returns the times in order of size.
func saveMany(b *testing.B, source, replica string) []time.Duration {
	b.Helper()
	seen, err := fsnotify.NewWatcher()
	if err != nil {
		b.Fatal(err)
	}
	defer seen.Close()
	if err := seen.Add(replica); err != nil {
		b.Fatal(err)
	}
	times := make([]time.Duration, 0, saves)
	for i := range saves {
		name := fmt.Sprintf("file-%d", i%10)
		content := bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x', '\n'}, saveSize/4)
		began := time.Now()
		if err := os.WriteFile(filepath.Join(source, name), content, 0o644); err != nil {
			b.Fatal(err)
		}
		waitCreated(b, seen, filepath.Join(replica, name))
		times = append(times, time.Since(began))
		got, err := os.ReadFile(filepath.Join(replica, name))
		if err != nil || !bytes.Equal(got, content) {
			b.Fatalf("save %d: the replica has %d other bytes (%v)", i, len(got), err)
		}
	}
	slices.Sort(times)
	return times
}

// waitCreated waits until path is renamed into place.
func waitCreated(b *testing.B, seen *fsnotify.Watcher, path string) {
	b.Helper()
	deadline := time.After(program.Patience)
	for {
		select {
		case e := <-seen.Events:
			if e.Name == path && e.Has(fsnotify.Create) {
				return
			}
		case err := <-seen.Errors:
			b.Fatal(err)
		case <-deadline:
			b.Fatalf("%s did not appear", path)
		}
	}
}

// rawCosts returns the median of the same steps, done one after the other by
// nobody else: paced, each time after the pause that settling is, since a
// machine that has just been idle answers later; and hot, without a pause.
func rawCosts(b *testing.B, url string, home *program.Home) (paced, hot time.Duration) {
	b.Helper()
	put, publish, place := putter(b, url), storedPublisher(b, home), placer(b)
	all := []func(int) error{put, put, publish, place}
	paced = median(b, settling, all...)
	hot = median(b, 0, all...)
	b.Logf("raw costs: put %s, stored publish %s, write and rename %s; all in a row %s, after a pause %s",
		median(b, 0, put), median(b, 0, publish), median(b, 0, place), hot, paced)
	return paced, hot
}

// median returns the median time of the steps in a row, each row after a pause.
func median(b *testing.B, pause time.Duration, steps ...func(i int) error) time.Duration {
	b.Helper()
	var times []time.Duration
	for i := range saves {
		time.Sleep(pause)
		began := time.Now()
		for _, step := range steps {
			if err := step(i); err != nil {
				b.Fatal(err)
			}
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return percentile(times, 50)
}

func putter(b *testing.B, url string) func(int) error {
	store, err := open.Bucket(b.Context(), url+"/raw", open.Options{})
	if err != nil {
		b.Fatal(err)
	}
	content := bytes.Repeat([]byte("x"), saveSize)
	n := 0
	return func(int) error {
		n++
		_, err := store.Put(b.Context(), fmt.Sprint(n), bytes.NewReader(content), saveSize,
			objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
		return err
	}
}

// storedPublisher publishes into a stream of its own on the bus that the watch
// embeds.
func storedPublisher(b *testing.B, home *program.Home) func(int) error {
	at, err := bus.ReadAddress(filepath.Join(home.Dir, "run"))
	if err != nil {
		b.Fatal(err)
	}
	conn, err := nats.Connect(at.URL, nats.Token(at.Token))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateOrUpdateStream(b.Context(), jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}}); err != nil {
		b.Fatal(err)
	}
	content := bytes.Repeat([]byte("x"), saveSize)
	return func(int) error {
		_, err := js.Publish(b.Context(), "raw", content)
		return err
	}
}

func placer(b *testing.B) func(int) error {
	dir := b.TempDir()
	content := bytes.Repeat([]byte("x"), saveSize)
	return func(i int) error {
		temp := filepath.Join(dir, "temp")
		if err := os.WriteFile(temp, content, 0o644); err != nil {
			return err
		}
		return os.Rename(temp, filepath.Join(dir, fmt.Sprint(i%10)))
	}
}

// waitForBus waits until the worker is on the bus.
func waitForBus(b *testing.B, home *program.Home) {
	b.Helper()
	at := filepath.Join(home.Dir, "run")
	conn, err := bus.Connect(bus.Options{AddressDir: at})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(b.Context(), program.Patience)
	defer cancel()
	if err := conn.WaitUp(ctx); err != nil {
		b.Fatal(err)
	}
}
