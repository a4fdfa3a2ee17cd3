package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

// What is written while the bus is away is announced when it is back, the
// newest of every path, before anything later.
func TestHeraldKeepsWhatCannotBeSaid(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t)
	h := herald(t, connect(t, bus.Options{AddressDir: dir}), key)
	got := make(chan manifest.Writes, 100)
	f := bus.NewFeed(connect(t, bus.Options{AddressDir: dir}), storage, newKeys(key).verifier(), nil)
	run(t, func(ctx context.Context) error {
		return f.Run(ctx, func(e bus.Heard) {
			if e.Writes != nil {
				got <- *e.Writes
			}
		})
	})
	step := func(p manifest.Path, prev, rev string) manifest.Write {
		w := write(p)[0]
		w.Prev, w.Rev = prev, rev
		return w
	}
	for _, w := range []manifest.Write{step("a", "r0", "r1"), step("b", "", "r1"), step("a", "r1", "r2")} {
		if err := h.Announce(short(t), []manifest.Write{w}); !errors.Is(err, bus.ErrNotAlive) {
			t.Fatalf("Announce = %v", err)
		}
	}
	own(t, dir, bus.ServerOptions{})
	alive(t, f)
	if err := h.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
	announce(t, h, step("a", "r2", "r3"))
	fence(t, f)
	last := map[manifest.Path]string{}
	for len(got) > 0 {
		for _, c := range (<-got).Changes {
			if c.Rev < last[c.Path] {
				t.Errorf("%s at %s after %s", c.Path, c.Rev, last[c.Path])
			}
			last[c.Path] = c.Rev
			if c.Path == "a" && c.Rev == "r2" && c.Prev != "r0" {
				t.Errorf("a at r2 replaces %q, want the revision before all", c.Prev)
			}
		}
	}
	if last["a"] != "r3" {
		t.Errorf("the last of a is %q", last["a"])
	}
}

// A session of thousands of paths without a bus does not grow: readers learn
// that there is more than they are told.
func TestHeraldOutboxIsBounded(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t)
	h := herald(t, connect(t, bus.Options{AddressDir: dir}), key)
	for i := range 5000 {
		_ = h.Announce(short(t), write(manifest.Path(fmt.Sprint("f", i))))
	}
	own(t, dir, bus.ServerOptions{})
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	if err := h.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
	announce(t, h, write("last")...)
	fence(t, f)
	all := strings.Join(heard.all(), " ")
	if strings.Contains(all, " f903 ") || !strings.HasSuffix(all, " last") {
		t.Errorf("heard %.200s", all)
	}
}

// Much at once becomes several messages in order; content is left out where it
// does not fit.
func TestAnnounceSplits(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	f, heard := feed(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	h := herald(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	var many []manifest.Write
	for i := range 1000 {
		w := write(manifest.Path(fmt.Sprint("f", i)))[0]
		w.Data = []byte("x")
		many = append(many, w)
	}
	big := write("big")[0]
	big.Size = 16 << 30
	big.PartSize, big.Parts = 8<<20, make([]manifest.Hash, 2048) // more than a message by themselves
	for i := range big.Parts {
		big.Parts[i] = manifest.Sum(fmt.Append(nil, i))
	}
	announce(t, h, append(many, big)...)
	fence(t, f)
	paths := 0
	for i, line := range heard.all()[1:] {
		words := strings.Fields(line)
		if words[0] != fmt.Sprint(i+1) {
			t.Errorf("message %d has number %s", i+1, words[0])
		}
		paths += len(words) - 1
	}
	if paths != 1001 || heard.count("lost") != 1 {
		t.Errorf("%d paths in %d messages", paths, len(heard.all())-1)
	}
}

func TestWritesFit(t *testing.T) {
	w := manifest.Writes{Storage: storage, Session: bus.NewSession(), Seq: 1}
	for i := range 10 {
		c := write(manifest.Path(fmt.Sprint("f", i)))[0]
		c.Data = make([]byte, 1<<(i+5))
		c.Size = int64(len(c.Data))
		w.Changes = append(w.Changes, c)
	}
	w.Changes = append(w.Changes, w.Changes[9], w.Changes[9], w.Changes[9])
	b, err := bus.EncodeWrites(w)
	if err != nil || len(b) > bus.MaxEvent {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	got, err := bus.DecodeWrites(b)
	if err != nil || len(got.Changes) != len(w.Changes) || got.Changes[0].Data == nil {
		t.Fatalf("got %d changes, %v", len(got.Changes), err)
	}
}

// A server that forbids announcements is an error at once, and no storm.
func TestDeniedHerald(t *testing.T) {
	s := plain(t, server.Options{Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{liveObject}},
	}}}})
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}, User: "u", Password: "p"})
	h := herald(t, c, newKey(t))
	if err := h.Announce(short(t), write("a")); err == nil {
		t.Error("announced although denied")
	}
	if err := h.Flush(short(t)); err != nil {
		t.Error(err)
	}
}

// A mount that was stopped lets everybody go.
func TestAnnounceEndsWithItsContext(t *testing.T) {
	dir, _ := local(t)
	h := bus.NewHerald(connectUp(t, bus.Options{AddressDir: dir}), newKey(t), storage, bus.NewSession(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Announce(ctx, write("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Announce = %v", err)
	}
}

func FuzzDecodeWrites(f *testing.F) {
	b, _ := bus.EncodeWrites(manifest.Writes{Storage: storage, Session: bus.NewSession(), Seq: 1, Changes: write("a", "b")})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := bus.DecodeWrites(b)
		if err != nil {
			return
		}
		for _, c := range w.Changes {
			if _, err := manifest.ParsePath(string(c.Path)); err != nil {
				t.Error(err)
			}
		}
		if _, err := bus.EncodeWrites(w); err != nil && len(b) < bus.MaxEvent/8 {
			t.Errorf("encode what was decoded: %v", err)
		}
	})
}

// A server that does not answer holds up those who announce once. What they have
// to say waits, and is said when it answers again.
func TestFrozenBusHoldsUpOnce(t *testing.T) {
	_, at := local(t)
	key := newKey(t)
	p := newProxy(t, strings.TrimPrefix(at.URL, "nats://"))
	f, heard := feed(t, connectUp(t, bus.Options{URLs: []string{at.URL}, Token: at.Token}), newKeys(key))
	h := herald(t, connectUp(t, bus.Options{URLs: []string{p.url()}, Token: at.Token}), key)
	announce(t, h, write("a")...)
	p.hold()
	if err := h.Announce(short(t), write("b")); err == nil {
		t.Error("announced to a server that did not answer")
	}
	for range 100 {
		if err := h.Announce(short(t), write("c")); !errors.Is(err, bus.ErrNotAlive) {
			t.Fatalf("Announce waited for an answer: %v", err)
		}
	}
	p.release()
	if err := h.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
	announce(t, h, write("d")...)
	fence(t, f)
	all := strings.Join(heard.all(), " ")
	for _, name := range []string{" a", " b", " c", " d"} {
		if !strings.Contains(all, name) {
			t.Errorf("no%s in %q", name, all)
		}
	}
}
