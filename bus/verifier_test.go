package bus_test

import (
	"slices"
	"testing"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

// sealed returns the vouchers of a bucket that key is sealed in.
func sealed(key *bus.Key, seal string) *keys {
	ks := newKeys()
	ks.public[key.ID()] = manifest.Voucher{Public: key.Public(), Seal: seal}.Encode()
	return ks
}

// What one machine says for two buckets of one name reaches the readers of each
// alone, and costs no request more.
func TestOtherBucketsWordsAreDropped(t *testing.T) {
	dir, _ := local(t)
	key := newKey(t)
	x, y, former := sealed(key, "x"), sealed(key, "y"), newKeys(key)
	conn := connectUp(t, bus.Options{AddressDir: dir})
	feedX, heardX := feed(t, conn, x)
	feedY, heardY := feed(t, conn, y)
	feedFormer, heardFormer := feed(t, conn, former) // a voucher without a seal tells no buckets apart
	followX, followY := follow(t, conn, x), follow(t, conn, y)
	notices, err := conn.Events(t.Context(), storage, y.verifier())
	if err != nil {
		t.Fatal(err)
	}

	say := func(seal string) *bus.Herald {
		h := bus.NewHerald(conn, key, storage, bus.NewSession(), nil)
		h.Seal = seal
		run(t, h.Run)
		return h
	}
	ofX, ofY := say("x"), say("y")
	for range 20 {
		announce(t, ofX, write("x")...)
	}
	announce(t, ofY, write("y")...)
	p := publish(t, conn, key)
	for i, seal := range []string{"x", "x", "x", "y"} {
		e := event(uint64(i + 1))
		e.Epoch, e.Seal = manifest.Epoch("of "+seal), seal
		p.Announce(e)
		flush(t, p)
	}
	if wantNext(t, followX, 3); x.count(bus.OtherBucket) == 0 {
		t.Error("nothing was dropped for x")
	}
	for _, next := range []func() manifest.Event{
		func() manifest.Event { return wantNext(t, followY, 4) },
		func() manifest.Event {
			for n := range notices {
				return n.Event
			}
			return manifest.Event{}
		},
	} {
		if e := next(); e.Seal != "y" || e.Generation != 4 {
			t.Errorf("y hears generation %d of %q first", e.Generation, e.Seal)
		}
	}
	for name, c := range map[string]struct {
		feed  *bus.Feed
		heard *heard
		want  []string
	}{
		"x":      {feedX, heardX, []string{"commit 3", "20 x"}},
		"y":      {feedY, heardY, []string{"commit 4", "1 y"}},
		"former": {feedFormer, heardFormer, []string{"commit 3", "commit 4", "1 y", "20 x"}},
	} {
		fence(t, c.feed)
		all := c.heard.all()
		for _, want := range c.want {
			if !slices.Contains(all, want) {
				t.Errorf("%s heard %q, not %s", name, all, want)
			}
		}
		if name == "y" && (slices.Contains(all, "1 x") || slices.Contains(all, "commit 1")) {
			t.Errorf("y heard %q", all)
		}
		if n := c.heard.count("lost"); n != 1 {
			t.Errorf("%s lost something %d times", name, n-1)
		}
	}
	for _, ks := range []*keys{x, y} {
		ks.mu.Lock()
		if ks.lookups > 3 { // one for each who listens
			t.Errorf("%d lookups", ks.lookups)
		}
		ks.mu.Unlock()
	}
}
