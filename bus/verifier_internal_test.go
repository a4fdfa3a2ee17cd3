package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A bucket that was made anew has another seal: it is asked for, once a minute
// at the most, and what was dropped is judged again.
func TestSealIsLookedUpAgain(t *testing.T) {
	key, err := LoadOrCreateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	seal, lookups, away := "first", 0, error(nil)
	v := NewVerifier(func(context.Context, string) ([]byte, error) {
		lookups++
		return manifest.Voucher{Public: key.Public(), Seal: seal}.Encode(), away
	}, nil)
	event := func(seal string) message {
		m, err := sign(key, manifest.Event{Storage: "s", Source: "main", Epoch: "e", Generation: 1, Seal: seal})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	want := func(what, seal string, reason Reason, total int) {
		t.Helper()
		_, err := v.verify(t.Context(), "s", event(seal))
		var d *drop
		if errors.As(err, &d) && d.reason != reason || (err == nil) != (reason == "") || lookups != total {
			t.Errorf("%s: %v after %d lookups, want %q after %d", what, err, lookups, reason, total)
		}
	}
	later := func() {
		by := v.found[key.ID()]
		by.asked = time.Now().Add(-sealAgain)
		v.found[key.ID()] = by
	}
	want("ours", "first", "", 1)
	want("another", "second", OtherBucket, 1)
	later()
	want("another, a minute later", "second", OtherBucket, 2)
	want("another, at once", "second", OtherBucket, 2)
	seal = "second"
	want("of the new bucket, at once", "second", OtherBucket, 2)
	later()
	away = errors.New("the store is away")
	want("of the new bucket, while the store is away", "second", OtherBucket, 3)
	want("of the former one, meanwhile", "first", "", 3)
	away = nil
	later()
	want("of the new bucket, a minute later", "second", "", 4)
	want("of the former one", "first", OtherBucket, 4)
}
