package bus_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

const (
	storage  = "models"
	deadline = 10 * time.Second
	live     = "skyagent.v1.live.models.commit"
	stored   = "skyagent.v1.ev.models.commit"
)

// run starts f and returns a function that ends it and waits until it is gone;
// the test's end does so too.
func run(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within %v", what, deadline)
}

func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// own becomes the owner of a bus in dir and returns when it is ready.
func own(t testing.TB, dir string, o bus.ServerOptions) (at bus.Address, stop func()) {
	t.Helper()
	ready := make(chan bus.Address, 1)
	o.Ready = func(a bus.Address) { ready <- a }
	if o.StoreDir == "" {
		o.StoreDir = filepath.Join(dir, "store")
	}
	stop = run(t, func(ctx context.Context) error { return bus.Own(ctx, dir, o) })
	select {
	case at = <-ready:
	case <-time.After(deadline):
		t.Fatal("the bus is not ready")
	}
	return at, stop
}

// connect returns a connection by options, closed with the test.
func connect(t testing.TB, o bus.Options) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func connectUp(t testing.TB, o bus.Options) *bus.Conn {
	t.Helper()
	c := connect(t, o)
	if err := c.WaitUp(short(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// local starts a bus and returns its directory and address.
func local(t testing.TB) (dir string, at bus.Address) {
	t.Helper()
	dir = t.TempDir()
	at, _ = own(t, dir, bus.ServerOptions{})
	return dir, at
}

// raw returns a plain client with full rights.
func raw(t testing.TB, at bus.Address) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(at.URL, nats.Token(at.Token))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// plain starts a NATS server of somebody else's.
func plain(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(deadline) {
		t.Fatal("the server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func newKey(t testing.TB) *bus.Key {
	t.Helper()
	k, err := bus.LoadOrCreateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keys is a bucket's .skyagent/writers/, counting lookups.
type keys struct {
	mu      sync.Mutex
	public  map[string][]byte
	lookups int
	dropped map[bus.Reason]int
}

func newKeys(of ...*bus.Key) *keys {
	k := &keys{public: map[string][]byte{}, dropped: map[bus.Reason]int{}}
	for _, key := range of {
		k.public[key.ID()] = key.Public()
	}
	return k
}

func (k *keys) lookup(_ context.Context, id string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lookups++
	if b, ok := k.public[id]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (k *keys) observe(r bus.Reason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped[r]++
}

func (k *keys) count(r bus.Reason) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped[r]
}

func (k *keys) verifier() *bus.Verifier { return bus.NewVerifier(k.lookup, k.observe) }

func event(generation uint64) manifest.Event {
	return manifest.Event{
		Source: "laptop", Epoch: "e1", Generation: generation, Prev: generation - 1,
		Commit: manifest.Sum(fmt.Append(nil, generation)), Time: time.Unix(1e9, 0).UTC(),
		Count: 1, Changes: []manifest.Change{{Op: manifest.Delete, File: manifest.File{Path: "a"}}},
	}
}

func follow(t testing.TB, c *bus.Conn, k *keys) *bus.Follower {
	t.Helper()
	f := bus.NewFollower(c, storage, k.verifier(), nil)
	run(t, f.Run)
	return f
}

// subscribed waits until somebody hears what is said on subject: where nothing
// is stored, what comes before that is lost.
func subscribed(t testing.TB, s *server.Server, subject string) {
	t.Helper()
	eventually(t, "a subscription of "+subject, func() bool {
		subs, err := s.Subsz(&server.SubszOptions{Subscriptions: true, Test: subject})
		return err == nil && subs.Total > 0
	})
}

func publish(t testing.TB, c *bus.Conn, k *bus.Key) *bus.Publisher {
	t.Helper()
	p := bus.NewPublisher(c, k, storage, nil)
	run(t, p.Run)
	return p
}

func flush(t testing.TB, p *bus.Publisher) {
	t.Helper()
	if err := p.Flush(short(t)); err != nil {
		t.Fatal(err)
	}
}

// wantNext takes events until the wanted generation comes.
func wantNext(t testing.TB, f *bus.Follower, generation uint64) manifest.Event {
	t.Helper()
	for {
		e, err := f.Next(short(t))
		if err != nil {
			t.Fatalf("Next: %v; want generation %d", err, generation)
		}
		if e.Generation == generation {
			return e
		}
		if e.Generation > generation {
			t.Fatalf("Next: generation %d, want %d", e.Generation, generation)
		}
	}
}

// signed returns e as key would publish it on subject.
func signed(t testing.TB, key *bus.Key, e manifest.Event, subject string) *nats.Msg {
	t.Helper()
	e.Writer = key.ID()
	if e.Storage == "" {
		e.Storage = storage
	}
	b, err := bus.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return envelope(key.ID(), key.Sign(e.Storage, b), b, subject)
}
