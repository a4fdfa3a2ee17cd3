package syncer_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

const leaseKey = ".skyagent/sources/main/lease"

func (r *rig) lease(h syncer.Holder) {
	b, err := json.Marshal(h)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.memory.Put(r.t.Context(), leaseKey, strings.NewReader(string(b)), int64(len(b)), objstore.PutOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestSecondWatchIsRefused(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	first := r.watch()
	first.becomes(syncer.StateReady)
	other := *r
	other.state, other.source = t.TempDir(), t.TempDir()
	elsewhere := func(o *syncer.SourceOptions) { o.Writer, o.Host = "writer-2", "there" }
	for name, change := range map[string]func(*syncer.SourceOptions){
		"plain":    elsewhere,
		"takeover": func(o *syncer.SourceOptions) { elsewhere(o); o.Takeover = true },
	} {
		second := other.watch(change)
		var held *syncer.HeldError
		err := second.ended()
		if !errors.As(err, &held) || !held.Live || held.Holder.Host != "here" || held.Holder.Root != r.source {
			t.Errorf("%s: got %v", name, err)
		}
		if !strings.Contains(err.Error(), "here") || !strings.Contains(err.Error(), r.source) {
			t.Errorf("%s: the error does not name the first: %v", name, err)
		}
	}
	// On the same machine with the same state the lock says so.
	if err := r.watch().ended(); !errors.Is(err, syncer.ErrInUse) {
		t.Errorf("same state: %v", err)
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	holder, err := syncer.LeaseHolder(t.Context(), r.memory, "main")
	if err != nil || !holder.Until.IsZero() || holder.Writer != "writer-1" {
		t.Errorf("given back: %+v, %v", holder, err)
	}
}

func TestLeaseOfOthers(t *testing.T) {
	soon, past := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	const dead = 1 << 30 // no process has this id
	for _, c := range []struct {
		name     string
		holder   syncer.Holder
		here     bool // the holder's root is ours
		takeover bool
		want     bool
	}{
		{"our own, killed", syncer.Holder{Writer: "writer-1", Host: "here", PID: dead, Until: soon}, true, false, true},
		{"new key, dead process", syncer.Holder{Writer: "old", Host: "here", PID: dead, Until: soon}, true, false, true},
		{"new key, given back", syncer.Holder{Writer: "old", Host: "here", PID: 1}, true, false, true},
		{"new key, living process", syncer.Holder{Writer: "old", Host: "here", PID: 1, Until: soon}, true, false, false},
		{"another host, same path", syncer.Holder{Writer: "old", Host: "there", PID: dead, Until: past}, true, false, false},
		{"another host, same path, takeover", syncer.Holder{Writer: "old", Host: "there", PID: dead, Until: past}, true, true, true},
		{"another root, run out", syncer.Holder{Writer: "old", Host: "there", Root: "/other", Until: past}, false, false, false},
		{"another root, run out, takeover", syncer.Holder{Writer: "old", Host: "there", Root: "/other", Until: past}, false, true, true},
		{"another root, given back", syncer.Holder{Writer: "old", Host: "here", Root: "/other"}, false, false, false},
		{"another root, live, takeover", syncer.Holder{Writer: "old", Host: "there", Root: "/other", Until: soon}, false, true, false},
		{"our key, another root", syncer.Holder{Writer: "writer-1", Host: "here", Root: "/other", Until: past}, false, false, false},
	} {
		r, _ := judged(t)
		r.write("a", "1")
		if c.here {
			c.holder.Root = r.source
		}
		r.lease(c.holder)
		_, err := r.sync(func(o *syncer.SourceOptions) { o.Takeover = c.takeover })
		var held *syncer.HeldError
		if got := err == nil; got != c.want || err != nil && !errors.As(err, &held) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if committed := r.object("a") == "1" && len(r.memory.Keys()) > 2; err != nil && committed && r.logged() {
			t.Errorf("%s: refused, and committed all the same", c.name)
		}
	}
}

func (r *rig) logged() bool {
	for _, key := range r.memory.Keys() {
		if strings.HasPrefix(key, logPrefix) {
			return true
		}
	}
	return false
}

func TestDamagedLease(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.foreign(leaseKey, "garbage")
	r.mustSync()
}

func TestLeaseIsTakenWhileWatching(t *testing.T) {
	r, _ := judged(t)
	if _, err := syncer.LeaseHolder(t.Context(), r.memory, "main"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	w := r.watch()
	w.becomes(syncer.StateReady)
	holder, err := syncer.LeaseHolder(t.Context(), r.memory, "main")
	if err != nil || holder.Host != "here" || holder.Root != r.source || time.Until(holder.Until) < 10*time.Second {
		t.Errorf("got %+v, %v", holder, err)
	}
}

// A pass that finds nothing to do writes nothing, not even a lease.
func TestIdlePassWritesNothing(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	r.memory.Before = func(op objstore.Op, key string) error {
		if op != objstore.OpList && op != objstore.OpGet {
			t.Errorf("%s %s", op, key)
		}
		return nil
	}
	r.mustSync()
}

func TestWriterKey(t *testing.T) {
	r, _ := judged(t)
	r.write("a", "1")
	r.mustSync()
	b, err := syncer.Voucher(t.Context(), r.memory, "writer-1")
	v := manifest.DecodeVoucher(b)
	if err != nil || string(v.Public) != "key" || v.Seal == "" {
		t.Errorf("got %q, %v", b, err)
	}
	if seal, err := syncer.PublishWriter(t.Context(), r.memory, "writer-1", []byte("key")); err != nil || seal != v.Seal {
		t.Errorf("published again: %q, %v, want %q", seal, err, v.Seal)
	}
	if _, err := syncer.Voucher(t.Context(), r.memory, "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A bucket that is emptied under a watch ends it: what else is missing nobody knows.
func TestLeaseGone(t *testing.T) {
	warm()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.write("a", "1")
		w := r.watch()
		w.becomes(syncer.StateReady)
		if err := r.store.Delete(t.Context(), r.memory.Keys()...); err != nil {
			t.Fatal(err)
		}
		if err := w.ended(); !errors.Is(err, syncer.ErrLeaseGone) {
			t.Errorf("the watch ended with %v, want %v", err, syncer.ErrLeaseGone)
		}
	})
}
