package bus_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skyagent/skyagent/bus"
)

// A feed that is half deaf is never alive: what it does not hear is not lost in
// silence.
func TestDeniedFeedIsNotAlive(t *testing.T) {
	s := plain(t, server.Options{Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
		Subscribe: &server.SubjectPermission{Deny: []string{"skyagent.v1.live.models.object"}},
	}}}})
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}, User: "u", Password: "p"})
	f, heard := bus.NewFeed(c, storage, newKeys().verifier(), nil), make(chan struct{}, 100)
	run(t, func(ctx context.Context) error { return f.Run(ctx, func(bus.Heard) { heard <- struct{}{} }) })
	<-heard // its fences come back
	eventually(t, "the feed is not alive", func() bool { return !f.Alive() && f.Fence(short(t)) != nil })
}

// Where only publishing is denied, it goes on hearing everything.
func TestFeedBesideADeniedHerald(t *testing.T) {
	s := plain(t, server.Options{Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{"skyagent.v1.live.models.object"}},
	}}}})
	key := newKey(t)
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}, User: "u", Password: "p"})
	f, _ := feed(t, c, newKeys(key))
	alive(t, f)
	if err := herald(t, c, key).Announce(short(t), write("a")); err == nil {
		t.Error("a denied announcement is no error")
	}
	fence(t, f)
}

// A server that hangs is noticed without its connection breaking, and when it goes
// on that is told: who had something to say may have given up.
func TestFeedNoticesSilence(t *testing.T) {
	s := plain(t, server.Options{})
	p := newProxy(t, s.Addr().String())
	f, h := feed(t, connect(t, bus.Options{URLs: []string{p.url()}}), newKeys())
	alive(t, f)
	p.hold()
	if err := f.Fence(context.Background()); err == nil {
		t.Error("a fence came back from a server that hangs")
	}
	if f.Alive() {
		t.Error("alive in silence")
	}
	before := len(h.all())
	p.release()
	alive(t, f)
	fence(t, f)
	if got := h.all()[before:]; len(got) == 0 || h.count("lost") != len(h.all()) {
		t.Errorf("heard %q", got)
	}
}

// A server that does not answer is given up by who announces when no feed that
// hears as little is trusted any more. So a fence that comes back afterwards, before
// the announcement, comes with the word that something was missed.
func TestSilenceEndsTrustFirst(t *testing.T) {
	s := plain(t, server.Options{})
	key := newKey(t)
	reader, writer := newProxy(t, s.Addr().String()), newProxy(t, s.Addr().String())
	f, heard := feed(t, connectUp(t, bus.Options{URLs: []string{reader.url()}}), newKeys(key))
	h := herald(t, connectUp(t, bus.Options{URLs: []string{writer.url()}}), key)
	announce(t, h, write("a")...)
	fence(t, f)
	before := heard.count("lost")
	reader.hold()
	writer.hold()
	if err := h.Announce(short(t), write("b")); err == nil {
		t.Error("announced to a server that did not answer")
	}
	reader.release()
	if err := f.Fence(short(t)); err == nil && heard.count("lost") == before {
		t.Errorf("the feed is trusted, and heard only %q", heard.all())
	}
	writer.release()
	if err := h.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
	alive(t, f)
	fence(t, f)
	if all := strings.Join(heard.all(), " "); !strings.Contains(all, " b") || heard.count("lost") == before {
		t.Errorf("heard %q", all)
	}
}

// A connection that breaks and comes back in a blink is told before any fence of
// the next one returns.
func TestFeedNoticesABlink(t *testing.T) {
	s := plain(t, server.Options{})
	f, h := feed(t, connect(t, bus.Options{URLs: []string{s.ClientURL()}}), newKeys())
	alive(t, f)
	for n := range 10 {
		z, err := s.Connz(&server.ConnzOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before := len(h.all())
		for _, c := range z.Conns {
			_ = s.DisconnectClientByID(c.Cid)
		}
		eventually(t, "it is lost and back", func() bool { return len(h.all()) > before && f.Fence(short(t)) == nil })
		if got := len(h.all()); got != before+1 {
			t.Errorf("blink %d is told %d times", n, got-before)
		}
	}
}
