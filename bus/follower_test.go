package bus_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

func envelope(writer string, signature, body []byte, subject string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Header.Set("Skyagent-Writer", writer)
	m.Header.Set("Skyagent-Signature", base64.StdEncoding.EncodeToString(signature))
	m.Data = body
	return m
}

func send(t testing.TB, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestAnnounceReachesFollower(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)

	want := event(1)
	want.Changes = []manifest.Change{{Op: manifest.Put, Data: []byte("hello"),
		File: manifest.File{Path: "run.sh", Mode: 0o755, Size: 5, Hash: manifest.Sum([]byte("hello"))}}}
	p.Announce(want)
	got := wantNext(t, f, 1)
	if got.Storage != storage || got.Writer != key.ID() || !got.Complete() {
		t.Errorf("got %+v", got)
	}
	if string(got.Changes[0].Data) != "hello" || got.Commit != want.Commit {
		t.Errorf("got changes %+v", got.Changes)
	}
}

// A worker that missed everything gets the newest event by one direct get.
func TestFollowerCatchesUp(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	for g := uint64(1); g <= 3; g++ {
		p.Announce(event(g))
		flush(t, p)
	}
	f := follow(t, connect(t, bus.Options{AddressDir: dir}), newKeys(key))
	e, err := f.Next(short(t))
	if err != nil || e.Generation != 3 {
		t.Fatalf("Next = generation %d, %v; want 3", e.Generation, err)
	}
}

func TestHostileMessagesAreDropped(t *testing.T) {
	dir, at := local(t)
	key, stranger := newKey(t), newKey(t)
	ks := newKeys(key)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(5))
	wantNext(t, f, 5)

	nc := raw(t, at)
	good := signed(t, key, event(99), live)
	sig, _ := base64.StdEncoding.DecodeString(good.Header.Get("Skyagent-Signature"))
	elsewhere := event(99)
	elsewhere.Storage = "other"
	badPath := event(99)
	badPath.Changes[0].Path = "../../etc/passwd"
	cases := []struct {
		name string
		msg  *nats.Msg
		want bus.Reason
	}{
		{"unsigned", &nats.Msg{Subject: live, Data: good.Data}, bus.Unsigned},
		{"changed body", envelope(key.ID(), sig, append([]byte(" "), good.Data...), live), bus.Forged},
		{"signed by another in the writer's name", envelope(key.ID(), stranger.Sign(storage, good.Data), good.Data, live), bus.Forged},
		{"unknown writer", signed(t, stranger, event(99), live), bus.UnknownWriter},
		{"of another storage", signed(t, key, elsewhere, live), bus.WrongStorage},
		{"writer that is a path", envelope("../../../../secret00", sig, good.Data, live), bus.Malformed},
		{"path outside the root", signed(t, key, badPath, live), bus.Malformed},
		{"no JSON", envelope(key.ID(), key.Sign(storage, []byte("{")), []byte("{"), live), bus.Malformed},
		{"too large", envelope(key.ID(), sig, make([]byte, bus.MaxEvent+1), live), bus.Oversized},
		{"replayed", signed(t, key, event(4), live), bus.Stale},
		{"duplicate", signed(t, key, event(5), live), bus.Stale},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := ks.count(c.want)
			send(t, nc, c.msg)
			eventually(t, "drop as "+string(c.want), func() bool { return ks.count(c.want) > before })
		})
	}
	p.Announce(event(6))
	if e, err := f.Next(short(t)); err != nil || e.Generation != 6 {
		t.Errorf("Next = generation %d, %v; want 6 and nothing before it", e.Generation, err)
	}
}

// The stream is no more trusted than the live subject.
func TestForgedStoredEventIsDropped(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	flush(t, p)
	forged := signed(t, key, event(7), stored)
	forged.Data = []byte(strings.Replace(string(forged.Data), `"generation":7`, `"generation":8`, 1))
	if _, err := raw(t, at).RequestMsg(forged, deadline); err != nil {
		t.Fatal(err)
	}
	ks := newKeys(key)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	eventually(t, "drop as forged", func() bool { return ks.count(bus.Forged) == 1 })
	p.Announce(event(2))
	wantNext(t, f, 2)
}

// A replayed event of a former epoch is handed out at most once, and hides no
// event of the present one.
func TestReplayedEpochHidesNothing(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	wantNext(t, f, 1) // it listens
	nc := raw(t, at)
	old := event(900)
	old.Epoch = "e0"
	for g := uint64(2); g <= 5; g++ {
		send(t, nc, signed(t, key, old, live))
		send(t, nc, signed(t, key, event(g), live))
	}
	seen := map[manifest.Epoch]int{}
	for last := uint64(0); last != 5; {
		e, err := f.Next(short(t))
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.Epoch]++; e.Epoch == "e1" {
			last = e.Generation
		}
	}
	if seen["e0"] > 1 {
		t.Errorf("the old event came %d times", seen["e0"])
	}
}

// A storm of events in the names of made-up writers costs the bucket a bounded
// number of requests, and holds up nobody's true events.
func TestForgeryStormIsBounded(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	ks := newKeys(key)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	wantNext(t, f, 1)
	nc := raw(t, at)
	body := signed(t, key, event(9), live)
	const storm = 200
	for i := range storm {
		send(t, nc, envelope(fmt.Sprintf("%020x", i), []byte("signature"), body.Data, live))
	}
	p.Announce(event(2))
	wantNext(t, f, 2)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.lookups > 30 {
		t.Errorf("%d lookups for %d forged events", ks.lookups, storm)
	}
}

// A key that does not belong to the id it is stored under is no key.
func TestSwappedKeyIsRefused(t *testing.T) {
	dir, at := local(t)
	key, other := newKey(t), newKey(t)
	ks := newKeys()
	ks.public[key.ID()] = other.Public()
	follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	b, _ := bus.Encode(manifest.Event{Storage: storage, Source: "s", Epoch: "e", Generation: 1, Writer: key.ID()})
	nc := raw(t, at)
	eventually(t, "drop as unknown writer", func() bool {
		send(t, nc, envelope(key.ID(), other.Sign(storage, b), b, live))
		return ks.count(bus.UnknownWriter) > 0
	})
}

// A reader that is slow finds the newest event, and one of every source.
func TestMailboxKeepsNewestOfEverySource(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	ks := newKeys(key)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	wantNext(t, f, 1)
	nc := raw(t, at)
	desktop := event(7)
	desktop.Source = "desktop"
	for _, e := range []manifest.Event{event(2), event(4), event(3), desktop} {
		send(t, nc, signed(t, key, e, live))
	}
	eventually(t, "reordered event is stale", func() bool { return ks.count(bus.Stale) > 0 })
	got := map[string]uint64{}
	for range 2 {
		e, err := f.Next(short(t))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Source] = e.Generation
	}
	if got["laptop"] != 4 || got["desktop"] != 7 {
		t.Errorf("got %v", got)
	}
}

// What somebody republishes from the stream keeps its signature.
func TestRepublishKeepsHeaders(t *testing.T) {
	s := plain(t, server.Options{JetStream: true, StoreDir: t.TempDir()})
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}})
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, _ := jetstream.New(nc)
	if _, err := js.CreateStream(short(t), jetstream.StreamConfig{
		Name: bus.StreamName, Subjects: []string{"skyagent.v1.ev.>"}, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "skyagent.v1.ev.>", Destination: "skyagent.v1.live.>"},
	}); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	ks := newKeys(key)
	f := follow(t, c, ks)
	if _, err := nc.RequestMsg(signed(t, key, event(1), stored), deadline); err != nil {
		t.Fatal(err)
	}
	wantNext(t, f, 1)
	if n := ks.count(bus.Unsigned) + ks.count(bus.Forged); n != 0 {
		t.Errorf("%d events had lost their signature", n)
	}
}

func TestHundredFollowers(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	ks := newKeys(key)
	followers := make([]*bus.Follower, 100)
	for i := range followers {
		followers[i] = follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	}
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	begin := time.Now()
	p.Announce(event(1))
	var wg sync.WaitGroup
	for _, f := range followers {
		wg.Go(func() {
			if _, err := f.Next(short(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("100 followers had the event after %v", time.Since(begin))
}

func TestEventsYieldsEachOnce(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	c := connectUp(t, bus.Options{AddressDir: dir})
	ctx, cancel := context.WithCancel(short(t))
	defer cancel()
	seq, err := c.Events(ctx, storage, newKeys(key).verifier())
	if err != nil {
		t.Fatal(err)
	}
	nc := raw(t, at)
	const last = 20
	var got []uint64
	sent := uint64(0)
	next := func() {
		sent++
		send(t, nc, signed(t, key, event(sent), live))
		send(t, nc, signed(t, key, event(sent), live))
	}
	eventually(t, "subscription", func() bool { return nc.Flush() == nil })
	next()
	for n := range seq {
		if got = append(got, n.Event.Generation); n.Event.Generation == last {
			break
		}
		next()
	}
	for i, g := range got {
		if g != uint64(i+1) {
			t.Fatalf("got %v", got)
		}
	}
}

// BenchmarkAnnounceNext measures from Announce to Next over loopback, the
// server storing with SyncAlways.
func BenchmarkAnnounceNext(b *testing.B) {
	for _, inline := range []int{0, 1 << 10, 16 << 10, 46 << 10} {
		b.Run(fmt.Sprintf("inline=%d", inline), func(b *testing.B) {
			dir, _ := local(b)
			key := newKey(b)
			f := follow(b, connectUp(b, bus.Options{AddressDir: dir}), newKeys(key))
			p := publish(b, connectUp(b, bus.Options{AddressDir: dir}), key)
			p.Announce(event(1))
			wantNext(b, f, 1)
			flush(b, p)
			var took []time.Duration
			for g := uint64(2); b.Loop(); g++ {
				e := withData(event(g), inline)
				begin := time.Now()
				p.Announce(e)
				wantNext(b, f, g)
				took = append(took, time.Since(begin))
				flush(b, p) // storing is not what a worker waits for
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

func withData(e manifest.Event, n int) manifest.Event {
	e.Changes = nil
	for ; n > 0; n -= 16 << 10 {
		data := make([]byte, min(n, 16<<10))
		e.Changes = append(e.Changes, manifest.Change{Op: manifest.Put, Data: data, File: manifest.File{
			Path: manifest.Path(fmt.Sprint("file", n)), Mode: 0o644, Size: int64(len(data)), Hash: manifest.Sum(data)}})
	}
	e.Count = len(e.Changes)
	return e
}
