package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/manifest"
)

// A liar has full rights on the bus, and no key in the bucket.
type liar struct {
	t       *testing.T
	conn    *nats.Conn
	subject string
	heard   []*nats.Msg // genuine events, in order
}

func (l *liar) say(header nats.Header, body []byte) {
	l.t.Helper()
	must(l.t, l.conn.PublishMsg(&nats.Msg{Subject: l.subject, Header: header, Data: body}))
}

// lie changes a genuine event and keeps its signature.
func (l *liar) lie(n int, change func(*manifest.Event)) {
	l.t.Helper()
	e, err := bus.Decode(l.heard[n].Data)
	must(l.t, err)
	change(&e)
	body, err := json.Marshal(e)
	must(l.t, err)
	l.say(l.heard[n].Header, body)
}

// TestForgedEvents lies on the bus in every way: the replica drops and counts
// it all, and stays right.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	server := servers.NATS(t, servers.NATSOptions{JetStream: true})
	watch := r.watch(t, "--nats", server.URL)
	replica := r.copy(t, "--nats", server.URL)
	conn, err := nats.Connect(server.URL)
	must(t, err)
	defer conn.Close()
	l := &liar{t: t, conn: conn, subject: "skyagent.v1.live." + bus.Token(r.bucket) + ".commit"}
	sub, err := conn.SubscribeSync(l.subject)
	must(t, err)
	must(t, conn.Flush())
	for i := range 6 {
		write(t, filepath.Join(r.source, "file"), fmt.Sprintf("genuine %d", i))
		m, err := sub.NextMsg(10 * time.Second)
		must(t, err)
		l.heard = append(l.heard, m)
		waitSame(t, r.source, r.replica)
	}

	evil := []byte("evil")
	intrude := func(e *manifest.Event) {
		e.Prev, e.Generation, e.Count = e.Generation, e.Generation+1, 1
		e.Changes = []manifest.Change{{Op: manifest.Put, Data: evil, File: manifest.File{
			Path: "evil", Mode: 0o644, Size: int64(len(evil)), Hash: manifest.Sum(evil)}}}
	}
	expect := func(what, reason string, least float64, lie func()) {
		t.Helper()
		before := dropped(t, replica, reason)
		lie()
		waitFor(t, what+" dropped as "+reason, func() bool { return dropped(t, replica, reason) >= before+least },
			func() any { return metrics(t, replica) })
		if d := differences(r.source, r.replica); d != nil {
			t.Errorf("after %s: %v", what, d)
		}
	}
	newest := len(l.heard) - 1
	expect("a changed event under its old signature", "forged", 1, func() { l.lie(newest, intrude) })
	expect("a far generation under an old signature", "forged", 1, func() {
		l.lie(newest, func(e *manifest.Event) { e.Generation += 1000 })
	})
	expect("a changed event without a signature", "unsigned", 1, func() {
		e, err := bus.Decode(l.heard[newest].Data)
		must(t, err)
		intrude(&e)
		body, err := json.Marshal(e)
		must(t, err)
		l.say(nil, body)
	})
	expect("noise", "unsigned", 1, func() { l.say(nil, []byte("noise")) })
	expect("noise under a signature", "forged", 1, func() { l.say(l.heard[newest].Header, []byte("noise")) })
	expect("an event of the right form by an unknown key", "unknown_writer", 1, func() { l.publish(r, server.URL, intrude) })
	expect("replayed, reordered and duplicated events", "stale", float64(2*len(l.heard)-2), func() {
		for _, m := range slices.Backward(l.heard) {
			l.say(m.Header, m.Data)
			l.say(m.Header, m.Data)
		}
	})

	write(t, filepath.Join(r.source, "file"), "the last word")
	took := waitSame(t, r.source, r.replica)
	t.Logf("the next genuine event was applied within %s", took)
	stop(t, replica, watch)
}

// publish says a well-made event that is signed by a key of the liar's own.
func (l *liar) publish(r *rig, url string, change func(*manifest.Event)) {
	l.t.Helper()
	key, err := bus.LoadOrCreateKey(l.t.TempDir())
	must(l.t, err)
	e, err := bus.Decode(l.heard[len(l.heard)-1].Data)
	must(l.t, err)
	change(&e)
	e.Storage, e.Writer = bus.Token(r.bucket), key.ID()
	body, err := bus.Encode(e)
	must(l.t, err)
	header := nats.Header{}
	for name := range l.heard[0].Header {
		header.Set(name, l.heard[0].Header.Get(name))
	}
	header.Set("Skyagent-Writer", key.ID())
	header.Set("Skyagent-Signature", base64.StdEncoding.EncodeToString(key.Sign(e.Storage, body)))
	l.say(header, body)
}
