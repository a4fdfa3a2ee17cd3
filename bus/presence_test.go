package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/skyagent/skyagent/bus"
)

func report(t testing.TB, c *bus.Conn, id, role string, generation uint64) (r *bus.Reporter, leave func()) {
	t.Helper()
	r = bus.NewReporter(c, storage, bus.Presence{
		ID: id, Role: role, Host: "h", Source: "laptop", Epoch: "e1", Generation: generation}, nil)
	return r, run(t, r.Run)
}

func members(t testing.TB, c *bus.Conn) map[string]bus.Presence {
	t.Helper()
	list, err := c.Members(short(t), storage)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]bus.Presence{}
	for _, p := range list {
		m[p.ID] = p
	}
	return m
}

func TestPresenceComesAndGoes(t *testing.T) {
	dir, _ := local(t)
	c := connectUp(t, bus.Options{AddressDir: dir})
	if m := members(t, c); len(m) != 0 {
		t.Errorf("members of an empty bus: %v", m)
	}
	a, leaveA := report(t, c, "a", "copy", 1)
	report(t, c, "b", "watch", 2)
	eventually(t, "both are present", func() bool { return len(members(t, c)) == 2 })
	a.Update(func(p *bus.Presence) { p.State = "applying"; p.Dirty = 3 })
	eventually(t, "the change is seen", func() bool { m := members(t, c)["a"]; return m.State == "applying" && m.Dirty == 3 })
	leaveA()
	if m := members(t, c); len(m) != 1 || m["b"].Generation != 2 {
		t.Errorf("after a clean exit: %v", m)
	}
}

// Presence is in the server's memory; everybody reports to a new server.
func TestPresenceSurvivesServer(t *testing.T) {
	dir := t.TempDir()
	_, stop := own(t, dir, bus.ServerOptions{})
	c := connectUp(t, bus.Options{AddressDir: dir})
	report(t, c, "a", "copy", 1)
	eventually(t, "present", func() bool { return len(members(t, c)) == 1 })
	stop()
	own(t, dir, bus.ServerOptions{})
	eventually(t, "present again", func() bool {
		list, err := c.Members(short(t), storage) // fails while the connection is not back
		return err == nil && len(list) == 1
	})
}

func TestManyMembers(t *testing.T) {
	dir, at := local(t)
	c := connectUp(t, bus.Options{AddressDir: dir})
	report(t, c, "first", "copy", 1)
	eventually(t, "the bucket", func() bool { return len(members(t, c)) == 1 })
	nc := raw(t, at)
	const many = 1300 // three pages
	for i := range many {
		body := fmt.Sprintf(`{"id":"w%d","role":"copy","generation":1}`, i)
		if err := nc.Publish(fmt.Sprintf("$KV.skyagent_workers.models.w%d", i), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish("$KV.skyagent_workers.other.x", []byte(`{"id":"x","role":"copy"}`)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	eventually(t, "all are listed", func() bool { return len(members(t, c)) == many+1 })
	t.Logf("%d members listed within %v", many, time.Since(begin))
}

func TestWaitForAll(t *testing.T) {
	dir, _ := local(t)
	c := connectUp(t, bus.Options{AddressDir: dir})
	target := bus.Target{Source: "laptop", Epoch: "e1", Generation: 2}
	a, _ := report(t, c, "a", "copy", 1)
	b, leaveB := report(t, c, "b", "mount", 1)
	report(t, c, "w", "watch", 9)
	eventually(t, "all present", func() bool { return len(members(t, c)) == 3 })

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	got, err := c.WaitFor(ctx, storage, target, 0)
	if !errors.Is(err, context.DeadlineExceeded) || len(got.Behind) != 2 || len(got.Reached) != 0 {
		t.Fatalf("WaitFor = %+v, %v", got, err)
	}

	done := make(chan bus.Barrier, 1)
	go func() {
		got, err := c.WaitFor(short(t), storage, target, 0)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	one := func() { a.Update(func(p *bus.Presence) { p.Generation = 2; p.Partial = true }) }
	one()
	if got, err := c.WaitFor(short(t), storage, target, 1); err != nil || len(got.Reached) != 1 || !got.Reached[0].Partial {
		t.Errorf("WaitFor one = %+v, %v", got, err)
	}
	select {
	case got := <-done:
		t.Fatalf("all have reached it while b is behind: %+v", got)
	default:
	}
	_ = b
	leaveB() // who has left is not waited for
	if got := <-done; len(got.Reached) != 1 || len(got.Behind) != 0 {
		t.Errorf("WaitFor all = %+v", got)
	}
}

// An acknowledgement ends the wait at once, long before the next report of
// presence.
func TestAckIsFast(t *testing.T) {
	dir, _ := local(t)
	c := connectUp(t, bus.Options{AddressDir: dir})
	r, _ := report(t, c, "a", "copy", 1)
	eventually(t, "present", func() bool { return len(members(t, c)) == 1 })
	for g := uint64(2); g < 12; g++ {
		begin := time.Now()
		r.Update(func(p *bus.Presence) { p.Generation = g })
		if _, err := c.WaitFor(short(t), storage, bus.Target{Source: "laptop", Epoch: "e1", Generation: g}, 0); err != nil {
			t.Fatal(err)
		}
		t.Logf("generation %d: %v", g, time.Since(begin))
	}
}

func TestMembersWithoutJetStream(t *testing.T) {
	s := plain(t, server.Options{})
	c := connectUp(t, bus.Options{URLs: []string{s.ClientURL()}})
	report(t, c, "a", "copy", 1)
	if list, err := c.Members(short(t), storage); err != nil || len(list) != 0 {
		t.Errorf("Members = %v, %v", list, err)
	}
}

// Every role can do its job with its permissions and nothing else.
func TestPermissions(t *testing.T) {
	seeds, users := map[string]string{}, []bus.User{}
	roles := map[string]bus.Role{"watcher": bus.Watcher, "worker": bus.Worker, "viewer": bus.Viewer, "mounter": bus.Mounter}
	for id, role := range roles {
		pair, _ := nkeys.CreateUser()
		public, _ := pair.PublicKey()
		seed, _ := pair.Seed()
		seeds[id] = writeSeed(t, seed)
		users = append(users, bus.User{Public: public, Permissions: bus.PermissionsFor(role, storage, id)})
	}
	at, _ := own(t, t.TempDir(), bus.ServerOptions{Users: users})
	as := func(id string) *bus.Conn {
		return connectUp(t, bus.Options{URLs: []string{at.URL}, NKey: seeds[id], InboxPrefix: bus.InboxPrefix(id)})
	}
	watcher, worker, viewer := as("watcher"), as("worker"), as("viewer")

	key, rogue := newKey(t), newKey(t)
	p := publish(t, watcher, key)
	report(t, watcher, "watcher", "watch", 1)
	p.Announce(event(1))
	flush(t, p)
	f := follow(t, worker, newKeys(key, rogue))
	wantNext(t, f, 1) // by direct get
	p.Announce(event(2))
	wantNext(t, f, 2)
	eventually(t, "presence of the watcher", func() bool { return len(members(t, viewer)) == 1 })
	r, _ := report(t, worker, "worker", "copy", 1)
	r.Update(func(p *bus.Presence) { p.Generation = 2 })
	eventually(t, "presence of the worker", func() bool { return len(members(t, viewer)) == 2 })
	target := bus.Target{Source: "laptop", Epoch: "e1", Generation: 2}
	if _, err := viewer.WaitFor(short(t), storage, target, 1); err != nil {
		t.Errorf("viewer: %v", err)
	}
	wantRefused(t, rogue, f, worker, viewer, as("mounter"))
	wantMountSpeaks(t, rogue, as("mounter"), worker)
	if _, err := worker.Members(short(t), storage); err == nil {
		t.Error("a worker lists members")
	}
}

// wantMountSpeaks lets a mounter announce writes, which a worker hears, and a
// worker, which nobody does.
func wantMountSpeaks(t *testing.T, key *bus.Key, mounter, worker *bus.Conn) {
	t.Helper()
	f, heard := feed(t, worker, newKeys(key))
	announce(t, herald(t, mounter, key), write("a")...)
	if err := herald(t, worker, key).Announce(short(t), write("b")); err == nil {
		t.Error("a worker announces writes")
	}
	fence(t, f)
	heard.want(t, "lost", "1 a")
	own, _ := feed(t, mounter, newKeys(key))
	fence(t, own)
}

// wantRefused lets those who may not announce commits do it, signed by a key
// that f would believe: it must see nothing of it.
func wantRefused(t *testing.T, key *bus.Key, f *bus.Follower, silent ...*bus.Conn) {
	t.Helper()
	for _, c := range silent {
		p := publish(t, c, key)
		p.Announce(event(77))
		flush(t, p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if e, err := f.Next(ctx); err == nil {
		t.Errorf("got %+v from who may not announce", e)
	}
}
