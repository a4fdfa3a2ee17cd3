package bus_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/bus"
)

func TestServerRefusesToBeOpen(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]bus.ServerOptions{
		"no store":            {},
		"bare":                {StoreDir: dir, Host: "0.0.0.0"},
		"all interfaces":      {StoreDir: dir, Host: "::", Token: "t"},
		"TLS, no credentials": {StoreDir: dir, Host: "192.0.2.1", TLS: &tls.Config{}},
		"a name":              {StoreDir: dir, Host: "example.com", Token: "t"},
	} {
		if _, err := bus.NewServer(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := bus.NewServer(bus.ServerOptions{StoreDir: dir, Host: "0.0.0.0", Token: "t", TLS: &tls.Config{}}); err != nil {
		t.Errorf("TLS and a token: %v", err)
	}
}

func TestServerWantsItsToken(t *testing.T) {
	_, at := local(t)
	if !strings.HasPrefix(at.URL, "nats://127.0.0.1:") || len(at.Token) < 20 {
		t.Fatalf("address %+v", at)
	}
	c := connect(t, bus.Options{URLs: []string{at.URL}, Token: "wrong"})
	eventually(t, "a reason", func() bool {
		err := c.Err()
		return err != nil && strings.Contains(strings.ToLower(err.Error()), "authorization")
	})
}

func TestAddressFile(t *testing.T) {
	dir := t.TempDir()
	at, stop := own(t, dir, bus.ServerOptions{})
	got, err := bus.ReadAddress(dir)
	if err != nil || got != at || got.PID != os.Getpid() {
		t.Errorf("ReadAddress = %+v, %v; want %+v", got, err, at)
	}
	info, err := os.Stat(filepath.Join(dir, "bus.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	stop()
	if _, err := bus.ReadAddress(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the owner left: %v", err)
	}
	again, _ := own(t, dir, bus.ServerOptions{})
	if again.URL != at.URL || again.Token == at.Token {
		t.Errorf("next owner at %s with the same token: %v; was %s", again.URL, again.Token == at.Token, at.URL)
	}
}

func TestTakenPortIsLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at, _ := own(t, t.TempDir(), bus.ServerOptions{Port: l.Addr().(*net.TCPAddr).Port})
	connectUp(t, bus.Options{URLs: []string{at.URL}, Token: at.Token})
}

func TestStoreHasOneServer(t *testing.T) {
	dir, _ := local(t)
	s, err := bus.NewServer(bus.ServerOptions{StoreDir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(short(t), nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on the store: %v", err)
	}
}

// One owns, the other waits and goes on when the first is gone; clients that
// were connected find the new one, and events flow again.
func TestOwnershipIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	_, stopFirst := own(t, dir, bus.ServerOptions{})
	second := make(chan bus.Address, 1)
	run(t, func(ctx context.Context) error {
		return bus.Own(ctx, dir, bus.ServerOptions{StoreDir: filepath.Join(dir, "store"), Ready: func(a bus.Address) { second <- a }})
	})
	key := newKey(t)
	f := follow(t, connectUp(t, bus.Options{AddressDir: dir}), newKeys(key))
	p := publish(t, connectUp(t, bus.Options{AddressDir: dir}), key)
	p.Announce(event(1))
	wantNext(t, f, 1)
	select {
	case <-second:
		t.Fatal("two owners")
	default:
	}
	begin := time.Now()
	stopFirst()
	p.Announce(event(2))
	<-second
	t.Logf("taken over after %v", time.Since(begin))
	wantNext(t, f, 2)
	t.Logf("next event after %v", time.Since(begin))
}

// The address changes (port, token, directory of the store) while a client is
// trying the old one.
func TestClientFollowsTheAddress(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, bus.Options{AddressDir: dir})
	if c.Up() {
		t.Fatal("up without a bus")
	}
	eventually(t, "a reason", func() bool { return errors.Is(c.Err(), fs.ErrNotExist) })
	dead := []byte(`{"url":"nats://127.0.0.1:1","token":"x","pid":1}`)
	if err := os.WriteFile(filepath.Join(dir, "bus.json"), dead, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an attempt there", func() bool {
		err := c.Err()
		return err != nil && !errors.Is(err, fs.ErrNotExist)
	})
	own(t, dir, bus.ServerOptions{})
	if err := c.WaitUp(short(t)); err != nil {
		t.Fatal(err)
	}
}

func TestConnectDoesNotBlock(t *testing.T) {
	begin := time.Now()
	// Addresses for documentation: nobody answers, not even with a refusal.
	c := connect(t, bus.Options{URLs: []string{"nats://192.0.2.1:4222", "nats://192.0.2.2:4222"}})
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("Connect took %v", d)
	}
	p := publish(t, c, newKey(t))
	p.Announce(event(1))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush = %v", err)
	}
}

func BenchmarkServerStartStop(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := bus.NewServer(bus.ServerOptions{StoreDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Run(ctx, func(bus.Address) error { cancel(); return nil })
	}
}
