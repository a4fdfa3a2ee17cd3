package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

const liveObject = "skyagent.v1.live.models.object"

// A heard keeps what a feed said, one word each: "lost", "commit G", or
// "SEQ PATH…".
type heard struct {
	mu   sync.Mutex
	said []string
}

func (h *heard) hear(e bus.Heard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case e.Lost:
		h.said = append(h.said, "lost")
	case e.Commit != nil:
		h.said = append(h.said, fmt.Sprint("commit ", e.Commit.Generation))
	default:
		line := fmt.Sprint(e.Writes.Seq)
		for _, c := range e.Writes.Changes {
			line += " " + string(c.Path)
		}
		h.said = append(h.said, line)
	}
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said)
}

// count returns how often the feed said line.
func (h *heard) count(line string) (n int) {
	for _, s := range h.all() {
		if s == line {
			n++
		}
	}
	return n
}

func (h *heard) want(t testing.TB, want ...string) {
	t.Helper()
	if got := h.all(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// feed runs a feed and returns when it is alive.
func feed(t testing.TB, c *bus.Conn, k *keys) (*bus.Feed, *heard) {
	t.Helper()
	f, h := bus.NewFeed(c, storage, k.verifier(), nil), &heard{}
	run(t, func(ctx context.Context) error { return f.Run(ctx, h.hear) })
	alive(t, f)
	return f, h
}

func alive(t testing.TB, f *bus.Feed) {
	t.Helper()
	for ctx := short(t); ; {
		changed := f.Changed()
		if f.Alive() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the feed is not alive")
		}
	}
}

func fence(t testing.TB, f *bus.Feed) {
	t.Helper()
	if err := f.Fence(short(t)); err != nil {
		t.Fatal(err)
	}
}

func herald(t testing.TB, c *bus.Conn, k *bus.Key) *bus.Herald {
	t.Helper()
	h := bus.NewHerald(c, k, storage, bus.NewSession(), nil)
	run(t, h.Run)
	return h
}

func write(paths ...manifest.Path) (list []manifest.Write) {
	for _, p := range paths {
		list = append(list, manifest.Write{Change: manifest.Change{Op: manifest.Put,
			File: manifest.File{Path: p, Mode: 0o644, Size: 1, Hash: manifest.Sum([]byte("x")), Rev: "r1"}}})
	}
	return list
}

func announce(t testing.TB, h *bus.Herald, changes ...manifest.Write) {
	t.Helper()
	if err := h.Announce(short(t), changes); err != nil {
		t.Fatal(err)
	}
}

// writes are number seq of session, as key would say them.
func writes(t testing.TB, key *bus.Key, session string, seq uint64, at time.Time, paths ...manifest.Path) *nats.Msg {
	t.Helper()
	b, err := bus.EncodeWrites(manifest.Writes{
		Storage: storage, Writer: key.ID(), Session: session, Seq: seq, Time: at, Changes: write(paths...),
	})
	if err != nil {
		t.Fatal(err)
	}
	return envelope(key.ID(), key.SignWrites(storage, b), b, liveObject)
}

// What was announced before a fence is heard when the fence returns, commits
// and writes in one order.
func TestFenceFollowsAnnounce(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	h := herald(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	nc := raw(t, at)
	want := []string{"lost"}
	for i := range uint64(50) {
		p := manifest.Path(fmt.Sprint("f", i))
		announce(t, h, write(p)...)
		want = append(want, fmt.Sprintf("%d %s", i+1, p))
		if i%5 == 0 {
			send(t, nc, signed(t, key, event(i+1), live))
			want = append(want, fmt.Sprint("commit ", i+1))
		}
		fence(t, f)
		if got := heard.all(); !slices.Equal(got, want) {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

// Many callers at once: each hears what it announced itself.
func TestFencesAreShared(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	h := herald(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 50 {
				p := manifest.Path(fmt.Sprintf("w%d.%d.", w, i))
				if err := errors.Join(h.Announce(short(t), write(p)), f.Fence(short(t))); err != nil {
					t.Error(err)
				}
				if !strings.Contains(strings.Join(heard.all(), " "), " "+string(p)) {
					t.Errorf("%s is not heard", p)
				}
			}
		})
	}
	group.Wait()
	if n := heard.count("lost"); n != 1 {
		t.Errorf("lost %d times", n)
	}
}

func TestFeedTellsGapsAndDropsReplays(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	ks := newKeys(key)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	nc := raw(t, at)
	session, now := bus.NewSession(), time.Now()
	say := func(seq uint64, paths ...manifest.Path) { send(t, nc, writes(t, key, session, seq, now, paths...)) }
	say(7, "a") // any number begins
	say(8, "b")
	say(8, "again")
	say(3, "old")
	say(8) // a beacon that says nothing new
	say(10, "c")
	say(11) // a beacon: 11 was lost
	say(12, "d")
	fence(t, f)
	heard.want(t, "lost", "7 a", "8 b", "lost", "10 c", "lost", "12 d")
	if n := ks.count(bus.Stale); n != 2 {
		t.Errorf("%d stale messages, want 2", n)
	}
}

// A session that was forgotten does not come back, and writes that were said
// long ago are a reason to look into the bucket, no more.
func TestFeedForgetsNoReplay(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	ks := newKeys(key)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	nc := raw(t, at)
	session := func(i int) string { return fmt.Sprintf("%016x%08x", 1000+i, i) }
	for i := range 80 {
		send(t, nc, writes(t, key, session(i), 1, time.Now(), "x"))
	}
	send(t, nc, writes(t, key, session(3), 1, time.Now(), "replayed"))
	fence(t, f)
	if heard.count("1 x") != 80 || heard.count("1 replayed") != 0 || ks.count(bus.Stale) != 1 {
		t.Errorf("heard %q, %d stale", heard.all(), ks.count(bus.Stale))
	}
	send(t, nc, writes(t, key, session(900), 1, time.Now().Add(-time.Hour), "recorded"))
	eventually(t, "told to look", func() bool { return heard.count("lost") == 2 })
	if heard.count("1 recorded") != 0 {
		t.Errorf("heard %q", heard.all())
	}
	alive(t, f)
}

func TestFeedDropsHostileWrites(t *testing.T) {
	dir, at := local(t)
	key, stranger := newKey(t), newKey(t)
	ks := newKeys(key)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	nc := raw(t, at)
	s := bus.NewSession()
	good := writes(t, key, s, 1, time.Now(), "a")
	broken := func(change func(*manifest.Writes)) *nats.Msg {
		w := manifest.Writes{Storage: storage, Writer: key.ID(), Session: s, Seq: 1, Time: time.Now(), Changes: write("a")}
		change(&w)
		b, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		return envelope(key.ID(), key.SignWrites(storage, b), b, liveObject)
	}
	for name, c := range map[string]struct {
		msg  *nats.Msg
		want bus.Reason
	}{
		"unsigned":              {&nats.Msg{Subject: liveObject, Data: good.Data}, bus.Unsigned},
		"by another":            {envelope(key.ID(), stranger.SignWrites(storage, good.Data), good.Data, liveObject), bus.Forged},
		"signed as a commit":    {envelope(key.ID(), key.Sign(storage, good.Data), good.Data, liveObject), bus.Forged},
		"a writer without key":  {writes(t, stranger, s, 1, time.Now(), "a"), bus.UnknownWriter},
		"outside the root":      {broken(func(w *manifest.Writes) { w.Changes[0].Path = "../x" }), bus.Malformed},
		"of skyagent's own":     {broken(func(w *manifest.Writes) { w.Changes[0].Path = ".skyagent/x" }), bus.Malformed},
		"a session like no one": {broken(func(w *manifest.Writes) { w.Session = "../../x" }), bus.Malformed},
		"of another storage":    {broken(func(w *manifest.Writes) { w.Storage = "other" }), bus.WrongStorage},
		"in another's name":     {broken(func(w *manifest.Writes) { w.Writer = stranger.ID() }), bus.Malformed},
		"a commit":              {signed(t, key, event(1), liveObject), bus.Forged},
	} {
		before := ks.count(c.want)
		send(t, nc, c.msg)
		fence(t, f)
		if ks.count(c.want) != before+1 {
			t.Errorf("%s: not dropped as %s", name, c.want)
		}
	}
	heard.want(t, "lost")
}

// A fence waits for the judgement on a writer that is new, and for no longer
// than a store may take; what could not be judged is lost, and told.
func TestFenceWaitsForVerdict(t *testing.T) {
	dir, at := local(t)
	key, other := newKey(t), newKey(t)
	ks := newKeys(key, other)
	answer := make(chan struct{})
	v := bus.NewVerifier(func(ctx context.Context, id string) ([]byte, error) {
		if id == other.ID() {
			<-ctx.Done() // a store that hangs
			return nil, ctx.Err()
		}
		<-answer
		return ks.lookup(ctx, id)
	}, ks.observe)
	f, heard := bus.NewFeed(connectUp(t, bus.Options{AddressDir: dir}), storage, v, nil), &heard{}
	run(t, func(ctx context.Context) error { return f.Run(ctx, heard.hear) })
	alive(t, f)
	nc := raw(t, at)
	send(t, nc, writes(t, key, bus.NewSession(), 1, time.Now(), "a"))
	done := make(chan error, 1)
	go func() { done <- f.Fence(short(t)) }()
	select {
	case err := <-done:
		t.Fatalf("the fence overtook a message: %v", err)
	case answer <- struct{}{}:
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	heard.want(t, "lost", "1 a")
	send(t, nc, writes(t, other, bus.NewSession(), 1, time.Now(), "b"))
	if err := f.Fence(short(t)); err == nil && heard.count("lost") != 2 {
		t.Error("a fence returned although a message could not be judged, and nobody was told")
	}
	eventually(t, "told", func() bool { return heard.count("lost") == 2 })
	alive(t, f)
}

func TestFeedIgnoresItsOwn(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	own := bus.NewSession()
	f, heard := bus.NewFeed(connectUp(t, bus.Options{AddressDir: dir}), storage, newKeys(key).verifier(), nil), &heard{}
	f.Ignore(own)
	run(t, func(ctx context.Context) error { return f.Run(ctx, heard.hear) })
	alive(t, f)
	h := bus.NewHerald(connectUp(t, bus.Options{AddressDir: dir}), key, storage, own, nil)
	run(t, h.Run)
	announce(t, h, write("a")...)
	fence(t, f)
	heard.want(t, "lost")
}

// A bus that goes is known at once where the connection breaks; when it is
// back, a loss is told before anything counts as heard.
func TestFeedOverReconnect(t *testing.T) {
	dir := t.TempDir()
	_, stop := own(t, dir, bus.ServerOptions{})
	key := newKey(t)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	c := connectUp(t, bus.Options{AddressDir: dir})
	h := herald(t, c, key)
	announce(t, h, write("a")...)
	fence(t, f)
	stop()
	eventually(t, "not alive", func() bool { return !f.Alive() })
	if err := f.Fence(short(t)); !errors.Is(err, bus.ErrNotAlive) {
		t.Errorf("Fence = %v", err)
	}
	eventually(t, "herald's end broken", func() bool { return !c.Up() })
	if err := h.Announce(short(t), write("b")); !errors.Is(err, bus.ErrNotAlive) {
		t.Errorf("Announce = %v", err)
	}
	own(t, dir, bus.ServerOptions{})
	alive(t, f)
	if n := heard.count("lost"); n != 2 {
		t.Errorf("lost %d times, want 2: %q", n, heard.all())
	}
	if err := h.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
	announce(t, h, write("c")...)
	fence(t, f)
	if heard.count("3 c") != 1 && heard.count("4 c") != 1 {
		t.Errorf("heard %q", heard.all())
	}
}

// A listener that is too slow for the queue is told.
func TestSlowFeedIsTold(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	f, h := bus.NewFeed(connectUp(t, bus.Options{AddressDir: dir}), storage, newKeys(key).verifier(), nil), &heard{}
	hold, begun := make(chan struct{}), make(chan struct{})
	run(t, func(ctx context.Context) error {
		return f.Run(ctx, func(e bus.Heard) {
			if e.Writes != nil && e.Writes.Seq == 1 {
				close(begun)
				<-hold
			}
			h.hear(e)
		})
	})
	alive(t, f)
	nc := raw(t, at)
	s := bus.NewSession()
	say := func(i uint64) {
		if err := nc.PublishMsg(writes(t, key, s, i, time.Now(), "x")); err != nil {
			t.Fatal(err)
		}
	}
	say(1)
	<-begun
	for i := range uint64(2000) {
		say(i + 2)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Fence(short(t)) }()
	close(hold)
	if err := <-done; err == nil && h.count("2001 x") == 0 && h.count("lost") == 1 {
		t.Error("a fence returned without what was announced before, and nobody was told")
	}
	eventually(t, "told", func() bool { return h.count("lost") > 1 })
	alive(t, f)
	fence(t, f)
}

// BenchmarkFence is what every open(2) of a mount waits for.
func BenchmarkFence(b *testing.B) {
	dir, _ := local(b)
	f, _ := feed(b, connectUp(b, bus.Options{AddressDir: dir}), newKeys())
	var took []time.Duration
	ctx := b.Context()
	for b.Loop() {
		began := time.Now()
		if err := f.Fence(ctx); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	quantiles(b, took)
}

func BenchmarkFenceParallel(b *testing.B) {
	dir, _ := local(b)
	f, _ := feed(b, connectUp(b, bus.Options{AddressDir: dir}), newKeys())
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f.Fence(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkAnnounceWrites(b *testing.B) {
	dir, _ := local(b)
	h := herald(b, connectUp(b, bus.Options{AddressDir: dir}), newKey(b))
	var took []time.Duration
	ctx := b.Context()
	for b.Loop() {
		began := time.Now()
		if err := h.Announce(ctx, write("a")); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	quantiles(b, took)
}

func quantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
