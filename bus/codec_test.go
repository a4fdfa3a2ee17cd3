package bus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

func TestEncodeFits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		e := randomEvent(r)
		before, _ := json.Marshal(e)
		b, err := bus.Encode(e)
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if len(b) > bus.MaxEvent {
			t.Fatalf("event %d: %d bytes", i, len(b))
		}
		if after, _ := json.Marshal(e); !bytes.Equal(before, after) {
			t.Fatalf("event %d was changed", i)
		}
		e.Storage = ""
		got, err := bus.Decode(b)
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		checkTrimmed(t, e, got)
	}
}

// checkTrimmed wants all changes or none, and that no content was left out for
// the sake of a larger one.
func checkTrimmed(t *testing.T, e, got manifest.Event) {
	t.Helper()
	if len(got.Changes) != 0 && len(got.Changes) != len(e.Changes) {
		t.Fatalf("%d of %d changes", len(got.Changes), len(e.Changes))
	}
	kept, left := 0, bus.MaxInline+1
	for i, c := range got.Changes {
		want := e.Changes[i].Data
		switch {
		case len(want) == 0:
		case c.Data == nil:
			left = min(left, len(want))
		case !bytes.Equal(c.Data, want):
			t.Fatalf("content of %s differs", c.Path)
		default:
			kept = max(kept, len(want))
		}
	}
	if kept > left {
		t.Fatalf("kept %d bytes and left out %d", kept, left)
	}
}

func randomEvent(r *rand.Rand) manifest.Event {
	e := event(r.Uint64N(1e6) + 1)
	e.Changes = nil
	n := []int{0, 1, 5, 40, 400, 2000}[r.IntN(6)]
	for i := range n {
		data := make([]byte, r.IntN([]int{10, 2000, 20000}[r.IntN(3)]))
		e.Changes = append(e.Changes, manifest.Change{Op: manifest.Put, Data: data, File: manifest.File{
			Path: manifest.Path(fmt.Sprintf("dir/ü<&>%d", i)), Mode: 0o644, Size: int64(len(data))}})
	}
	e.Count = n
	return e
}

func TestTrimKeepsWhatFits(t *testing.T) {
	e := withData(event(1), 16<<10)
	if got := bus.Trim(e); len(got.Changes[0].Data) != 16<<10 {
		t.Error("content of 16 KiB was left out")
	}
	e = withData(event(1), 80<<10)
	inline := 0
	for _, c := range bus.Trim(e).Changes {
		if c.Data != nil {
			inline++
		}
	}
	if inline != 2 {
		t.Errorf("%d of 5 files of 16 KiB inline, want 2", inline)
	}
	e.Changes[0].Data = make([]byte, bus.MaxInline+1)
	if bus.Trim(e).Changes[0].Data != nil {
		t.Error("a file over MaxInline stayed inline")
	}
}

func TestDecodeRefuses(t *testing.T) {
	ok := event(2)
	for name, change := range map[string]func(*manifest.Event){
		"no source":          func(e *manifest.Event) { e.Source = "" },
		"no epoch":           func(e *manifest.Event) { e.Epoch = "" },
		"generation 0":       func(e *manifest.Event) { e.Generation, e.Prev = 0, 0 },
		"prev not before":    func(e *manifest.Event) { e.Prev = e.Generation },
		"half the changes":   func(e *manifest.Event) { e.Count = 2 },
		"path upwards":       func(e *manifest.Event) { e.Changes[0].Path = "a/../../b" },
		"absolute path":      func(e *manifest.Event) { e.Changes[0].Path = "/etc/passwd" },
		"reserved path":      func(e *manifest.Event) { e.Changes[0].Path = ".skyagent/x" },
		"data of wrong size": func(e *manifest.Event) { e.Changes[0].Data = []byte("x") },
		"negative size":      func(e *manifest.Event) { e.Changes[0].Size = -1 },
	} {
		e := ok
		e.Changes = append([]manifest.Change(nil), ok.Changes...)
		change(&e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bus.Decode(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range []manifest.Event{event(1), withData(event(3), 5000)} {
		b, err := bus.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"source":"s","epoch":"e","generation":1,"count":1,"changes":[{"op":"put","path":"..","mode":0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := bus.Decode(b)
		if err != nil {
			return
		}
		for _, c := range e.Changes {
			if _, err := manifest.ParsePath(string(c.Path)); err != nil {
				t.Errorf("decoded: %v", err)
			}
		}
		again, err := bus.Encode(e)
		if err != nil {
			t.Fatalf("encode again: %v", err)
		}
		if _, err := bus.Decode(again); err != nil {
			t.Fatalf("decode again: %v", err)
		}
	})
}

func TestToken(t *testing.T) {
	for name, plain := range map[string]bool{
		"models": true, "team-a_1": true, strings.Repeat("x", 48): true,
		"": false, "a.b": false, "*": false, ">": false, "a b": false, "ü": false,
		"..": false, strings.Repeat("x", 49): false, "a\x00": false, strings.Repeat("é", 60): false,
	} {
		got := bus.Token(name)
		if (got == name) != plain {
			t.Errorf("Token(%q) = %q", name, got)
		}
		if len(got) > 48 || got == "" || strings.ContainsAny(got, ".*> \x00") || bus.Token(got) != got {
			t.Errorf("Token(%q) = %q", name, got)
		}
	}
	if bus.Token("a.b") == bus.Token("a_b") || bus.Token("a.b") == bus.Token("a/b") {
		t.Error("two names, one token")
	}
}

func BenchmarkEncode(b *testing.B) {
	e := withData(event(2), 46<<10)
	for b.Loop() {
		_, _ = bus.Encode(e)
	}
}

func BenchmarkDecode(b *testing.B) {
	enc, _ := bus.Encode(withData(event(2), 46<<10))
	for b.Loop() {
		_, _ = bus.Decode(enc)
	}
}

func BenchmarkSign(b *testing.B) {
	enc, _ := bus.Encode(withData(event(2), 46<<10))
	key := newKey(b)
	for b.Loop() {
		key.Sign(storage, enc)
	}
}
