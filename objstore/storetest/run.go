package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// Run tests that stores keep the contract of objstore.Store. open is called
// once for every subtest and returns a Store over an empty bucket that is
// there and no other test uses. -short leaves the long listing out.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) { RunPages(t, 10_000, open) }

// RunPages is Run with a long listing of n objects, for servers that become
// slower with every object. More than 1,000 are several pages.
func RunPages(t *testing.T, n int, open func(t *testing.T) objstore.Store) {
	for _, tc := range []struct {
		name string
		test func(t *suite)
	}{
		{"PutGet", testPutGet},
		{"Ranges", testRanges},
		{"Pinned", testPinned},
		{"Overwrite", testOverwrite},
		{"Metadata", testMetadata},
		{"Keys", testKeys},
		{"LongKeys", testLongKeys},
		{"NoKeys", testNoKeys},
		{"Empty", testEmpty},
		{"Absent", testAbsent},
		{"Compare", testCompare},
		{"RaceAbsent", testRaceAbsent},
		{"RaceCompare", testRaceCompare},
		{"ParallelPuts", testParallelPuts},
		{"Body", testBody},
		{"ListOrder", testListOrder},
		{"ListPages", func(t *suite) { testListPages(t, n) }},
		{"Delete", testDelete},
		{"DeleteMany", testDeleteMany},
		{"Copy", testCopy},
		{"RaceCopy", testRaceCopy},
		{"AssembleNew", testAssembleNew},
		{"AssembleDelta", testAssembleDelta},
		{"AssembleAppend", testAssembleAppend},
		{"AssembleRefuses", testAssembleRefuses},
		{"Cancelled", testCancelled},
		{"CancelledGet", testCancelledGet},
		{"CancelledPut", testCancelledPut},
		{"Names", testNames},
		{"Bucket", testBucket},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(&suite{t, open(t), t.Context()}) })
	}
}

// A suite is one subtest: the store and the shortest words for using it.
type suite struct {
	*testing.T
	store objstore.Store
	ctx   context.Context
}

func (t *suite) put(key, body string, opts objstore.PutOptions) objstore.Info {
	t.Helper()
	info, err := t.tryPut(key, body, opts)
	if err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	if info.Key != key || info.Size != int64(len(body)) || info.Rev == "" {
		t.Fatalf("Put(%q) of %d bytes returned %+v", key, len(body), info)
	}
	return info
}

func (t *suite) tryPut(key, body string, opts objstore.PutOptions) (objstore.Info, error) {
	return t.store.Put(t.ctx, key, strings.NewReader(body), int64(len(body)), opts)
}

// get checks the body at key, and that Get and Head agree about it.
func (t *suite) get(key, want string) objstore.Info {
	t.Helper()
	got, info, err := t.tryGet(key, 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if got != want {
		t.Fatalf("Get(%q) = %s, want %s", key, abridge(got), abridge(want))
	}
	head, err := t.store.Head(t.ctx, key)
	if err != nil {
		t.Fatalf("Head(%q): %v", key, err)
	}
	if head.Key != key || head.Key != info.Key || head.Size != int64(len(want)) || head.Size != info.Size ||
		head.Rev != info.Rev || !maps.Equal(head.Meta, info.Meta) || head.ModTime.IsZero() {
		t.Fatalf("Head(%q) = %+v, Get %+v", key, head, info)
	}
	return head
}

func (t *suite) tryGet(key string, off, n int64, cond objstore.Cond) (string, objstore.Info, error) {
	r, info, err := t.store.Get(t.ctx, key, off, n, cond)
	if err != nil {
		return "", info, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), info, err
}

// is checks the name of an error, and that it names the key.
func (t *suite) is(err, want error, key string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	if strings.Count(err.Error(), key) != 1 && key != "" {
		t.Errorf("error %q does not name %q once", err, key)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
}

// keys lists, and checks that nothing but the key comes wrong.
func (t *suite) keys(prefix, after string) []string {
	t.Helper()
	var keys []string
	for info, err := range t.store.List(t.ctx, prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func abridge(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%q… (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// noise returns n bytes that differ everywhere and for every seed.
func noise(n int, seed byte) string {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// fresh makes a part of new bytes.
func fresh(s string) objstore.Part {
	return objstore.Part{Size: int64(len(s)), Body: bytes.NewReader([]byte(s))}
}
