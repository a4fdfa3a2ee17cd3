package bus_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skyagent/skyagent/bus"
)

func streamInfo(t testing.TB, nc *nats.Conn) *jetstream.StreamInfo {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(short(t), bus.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo()
}

// While the server is away the outbox keeps the newest; once back it delivers.
func TestOutboxKeepsNewest(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, bus.Options{AddressDir: dir})
	key := newKey(t)
	p := publish(t, c, key)
	for g := uint64(1); g <= 50; g++ {
		p.Announce(event(g))
	}
	f := follow(t, connect(t, bus.Options{AddressDir: dir}), newKeys(key))
	at, _ := own(t, dir, bus.ServerOptions{})
	if e, err := f.Next(short(t)); err != nil || e.Generation != 50 {
		t.Fatalf("Next = generation %d, %v; want 50", e.Generation, err)
	}
	flush(t, p)
	if n := streamInfo(t, raw(t, at)).State.Msgs; n != 1 {
		t.Errorf("%d events stored, want the newest alone", n)
	}
}

// The same generation announced again is stored once.
func TestStoredOnce(t *testing.T) {
	dir, at := local(t)
	key := newKey(t)
	for range 3 {
		p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
		p.Announce(event(1))
		flush(t, p)
	}
	info := streamInfo(t, raw(t, at))
	if info.State.Msgs != 1 {
		t.Errorf("%d events stored", info.State.Msgs)
	}
	if c := info.Config; !c.AllowDirect || c.MaxMsgsPerSubject != 1024 || c.MaxConsumers < 10000 || c.Metadata["skyagent.schema"] != "1" {
		t.Errorf("stream %+v", c)
	}
}

// The server comes back with its store, then without: workers that start
// afterwards find the newest event both times.
func TestServerRestartAndWipe(t *testing.T) {
	dir := t.TempDir()
	_, stop := own(t, dir, bus.ServerOptions{})
	key := newKey(t)
	ks := newKeys(key)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	wantNext(t, f, 1)
	flush(t, p)
	stop()

	_, stop = own(t, dir, bus.ServerOptions{})
	late := follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks)
	wantNext(t, late, 1)
	p.Announce(event(2))
	wantNext(t, f, 2)
	flush(t, p)
	stop()

	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	at, _ := own(t, dir, bus.ServerOptions{})
	nc := raw(t, at)
	eventually(t, "the last event is stored again", func() bool {
		m, err := nc.Request("$JS.API.DIRECT.GET."+bus.StreamName+"."+stored, nil, deadline)
		return err == nil && m.Header.Get("Status") == ""
	})
	wantNext(t, follow(t, connectUp(t, bus.Options{AddressDir: dir}), ks), 2)
	p.Announce(event(3))
	wantNext(t, f, 3)
}

func TestNoJetStream(t *testing.T) {
	s := plain(t, server.Options{})
	o := bus.Options{URLs: []string{s.ClientURL()}}
	key := newKey(t)
	f := follow(t, connectUp(t, o), newKeys(key))
	subscribed(t, s, live)
	p := publish(t, connectUp(t, o), key)
	for g := uint64(1); g <= 3; g++ {
		p.Announce(event(g))
		flush(t, p)
	}
	wantNext(t, f, 3)
}

// Where a stream is forbidden, events are announced live all the same.
func TestStoringIsForbidden(t *testing.T) {
	s := plain(t, server.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*server.User{{
		Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{live}}},
	}}})
	o := bus.Options{URLs: []string{s.ClientURL()}, User: "u", Password: "p"}
	key := newKey(t)
	f := follow(t, connectUp(t, o), newKeys(key))
	subscribed(t, s, live)
	p := publish(t, connectUp(t, o), key)
	p.Announce(event(1))
	wantNext(t, f, 1)
	flush(t, p)
}

// An administrator's stream keeps its limits and gets what we need.
func TestForeignStreamIsAmended(t *testing.T) {
	s := plain(t, server.Options{JetStream: true, StoreDir: t.TempDir()})
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}})
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, _ := jetstream.New(nc)
	if _, err := js.CreateStream(short(t), jetstream.StreamConfig{
		Name: bus.StreamName, Subjects: []string{"skyagent.v1.ev.>"}, MaxMsgsPerSubject: 3,
	}); err != nil {
		t.Fatal(err)
	}
	publish(t, c, newKey(t)).Announce(event(1))
	eventually(t, "amended", func() bool { return streamInfo(t, nc).Config.AllowDirect })
	if cfg := streamInfo(t, nc).Config; cfg.MaxMsgsPerSubject != 3 {
		t.Errorf("the administrator's limit became %d", cfg.MaxMsgsPerSubject)
	}
}

func TestOptionsFromEnv(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"NATS_URL", "NATS_CREDS", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CA", "NATS_TIMEOUT", "NATS_SOCKS_PROXY", "NATS_CONTEXT"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	dir := filepath.Join(home, ".config", "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	body := `{"description":"x","url":"nats://a:1, nats://b:2","token":"secret","ca":"~/ca.pem","inbox_prefix":"_I","jetstream_domain":"hub"}`
	if err := os.WriteFile(filepath.Join(dir, "prod.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_CONTEXT", "prod")
	t.Setenv("NATS_TOKEN", "other")
	o, err := bus.OptionsFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.URLs, "|") != "nats://a:1|nats://b:2" || o.Token != "other" || o.Domain != "hub" || o.InboxPrefix != "_I" || o.CA != filepath.Join(home, "ca.pem") {
		t.Errorf("options %+v", o)
	}
	t.Setenv("NATS_CONTEXT", "../../etc/passwd")
	if _, err := bus.OptionsFromEnv(); err == nil {
		t.Error("a context that is a path was read")
	}
	t.Setenv("NATS_CONTEXT", "")
	if o, err := bus.OptionsFromEnv(); err != nil || len(o.URLs) != 0 {
		t.Errorf("empty environment: %+v, %v", o, err)
	}
	if _, err := bus.Connect(bus.Options{URLs: []string{"nats://a"}, Creds: filepath.Join(home, "none")}); err == nil {
		t.Error("credentials that are not there were taken")
	}
}
