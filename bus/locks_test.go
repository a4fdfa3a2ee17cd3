package bus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/skyagent/skyagent/bus"
)

func locks(t testing.TB, c *bus.Conn) *bus.Locks {
	t.Helper()
	l := bus.NewLocks(c, storage, nil)
	run(t, l.Run)
	return l
}

func wantLock(t testing.TB, l *bus.Locks, name, owner string, shared, want bool) {
	t.Helper()
	if got, err := l.Acquire(short(t), name, owner, shared); err != nil || got != want {
		t.Fatalf("%s of %s: got it: %v, %v; want %v", name, owner, got, err, want)
	}
}

func unlock(t testing.TB, l *bus.Locks, name, owner string) {
	t.Helper()
	if err := l.Release(short(t), name, owner); err != nil {
		t.Fatal(err)
	}
}

func TestLocks(t *testing.T) {
	dir, _ := local(t)
	a := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
	b := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
	const name = "dir/any name.*"
	wantLock(t, a, name, "1", false, true)
	wantLock(t, a, name, "1", false, true)
	wantLock(t, b, name, "1", false, false)
	wantLock(t, b, name, "1", true, false)
	wantLock(t, a, name, "2", false, false) // another owner of the same process
	wantLock(t, b, "other", "1", false, true)
	unlock(t, b, name, "1")
	wantLock(t, b, name, "1", false, false)

	wantLock(t, a, name, "1", true, true) // held alone, then shared
	wantLock(t, b, name, "1", true, true)
	wantLock(t, b, name, "2", true, true)
	wantLock(t, a, name, "1", false, false) // others share it
	unlock(t, b, name, "1")
	wantLock(t, b, name, "3", false, false) // a goes on sharing it
	unlock(t, b, name, "2")
	wantLock(t, a, name, "1", false, true)
	if a.Lost() == nil {
		t.Error("a holder has nothing to be told by")
	}
	unlock(t, a, name, "1")
	unlock(t, a, name, "1")
	wantLock(t, b, name, "3", false, true)
	if a.Lost() != nil {
		t.Error("who holds nothing can lose something")
	}
}

// At most one holds a lock at any moment, however many want it.
func TestLockExcludes(t *testing.T) {
	dir, _ := local(t)
	var (
		wg     sync.WaitGroup
		inside atomic.Int32
		turns  atomic.Int32
	)
	for i := range 4 {
		l := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
		for j := range 2 {
			owner := fmt.Sprint(i, j)
			wg.Go(func() {
				for n := 0; n < 10; {
					got, err := l.Acquire(short(t), "x", owner, false)
					if err != nil {
						t.Error(err)
						return
					}
					if !got {
						continue
					}
					if inside.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					inside.Add(-1)
					turns.Add(1)
					n++
					if err := l.Release(short(t), "x", owner); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if turns.Load() != 80 {
		t.Errorf("%d turns, want 80", turns.Load())
	}
}

// A clean end gives locks back at once.
func TestLocksAreGivenBack(t *testing.T) {
	dir, _ := local(t)
	a := bus.NewLocks(connectUp(t, bus.Options{AddressDir: dir}), storage, nil)
	stop := run(t, a.Run)
	b := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
	wantLock(t, a, "x", "1", false, true)
	lost := a.Lost()
	stop()
	wantLock(t, b, "x", "1", false, true)
	<-lost
}

// A holder that lost the bus is told before another can take over, and may hold
// the lock again later.
func TestLockOfTheLostIsTakenOver(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a lease lasts")
	}
	s := plain(t, server.Options{JetStream: true, StoreDir: t.TempDir()})
	p := newProxy(t, s.Addr().String())
	a := locks(t, connectUp(t, bus.Options{URLs: []string{p.url()}}))
	b := locks(t, connectUp(t, bus.Options{URLs: []string{s.ClientURL()}}))
	wantLock(t, a, "x", "1", false, true)
	lost := a.Lost()
	p.cut()
	ctx, cancel := context.WithTimeout(context.Background(), 3*deadline)
	defer cancel()
	for got := false; !got; {
		var err error
		if got, err = b.Acquire(ctx, "x", "1", false); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-lost:
	default:
		t.Fatal("another holds the lock, and the holder is not told")
	}
	if _, err := a.Acquire(ctx, "x", "1", false); err == nil {
		t.Error("Acquire without a bus: no error")
	}
	p.mend()
	eventually(t, "the bus is back", func() bool {
		got, err := a.Acquire(ctx, "x", "1", false)
		return err == nil && !got
	})
	unlock(t, b, "x", "1")
	wantLock(t, a, "x", "1", false, true)
}

// Locks outlast the server, if its store does.
func TestLocksOutlastTheServer(t *testing.T) {
	dir := t.TempDir()
	_, stop := own(t, dir, bus.ServerOptions{StoreDir: filepath.Join(dir, "store")})
	a := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
	wantLock(t, a, "x", "1", false, true)
	lost := a.Lost()
	stop()
	own(t, dir, bus.ServerOptions{StoreDir: filepath.Join(dir, "store")})
	b := locks(t, connectUp(t, bus.Options{AddressDir: dir}))
	wantLock(t, b, "x", "1", false, false)
	select {
	case <-lost:
		t.Error("the lock is lost")
	default:
	}
}

func TestLocksWithoutJetStream(t *testing.T) {
	s := plain(t, server.Options{})
	l := locks(t, connectUp(t, bus.Options{URLs: []string{s.ClientURL()}}))
	if got, err := l.Acquire(short(t), "x", "1", false); err == nil || got || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got it: %v, %v", got, err)
	}
}

func BenchmarkLock(b *testing.B) {
	dir, _ := local(b)
	l := locks(b, connectUp(b, bus.Options{AddressDir: dir}))
	for b.Loop() {
		wantLock(b, l, "x", "1", false, true)
		unlock(b, l, "x", "1")
	}
}

// A mount can lock with its permissions, also where nobody made the buckets.
func TestMounterMayLock(t *testing.T) {
	pair, _ := nkeys.CreateUser()
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	at, _ := own(t, t.TempDir(), bus.ServerOptions{Users: []bus.User{
		{Public: public, Permissions: bus.PermissionsFor(bus.Mounter, storage, "m")},
	}})
	l := locks(t, connectUp(t, bus.Options{URLs: []string{at.URL}, NKey: writeSeed(t, seed), InboxPrefix: bus.InboxPrefix("m")}))
	wantLock(t, l, "x", "1", false, true)
	wantLock(t, l, "x", "2", false, false)
	unlock(t, l, "x", "1")
	wantLock(t, l, "x", "2", false, true)
}
