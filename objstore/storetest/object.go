package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/skyagent/skyagent/objstore"
)

func testPutGet(t *suite) {
	for _, body := range []string{"", "x", noise(4096, 1), noise(3<<20, 2)} {
		t.put("dir/file", body, objstore.PutOptions{})
		t.get("dir/file", body)
	}
	_, err := t.store.Head(t.ctx, "dir/missing")
	t.is(err, fs.ErrNotExist, "dir/missing")
	_, _, err = t.tryGet("dir/missing", 0, -1, objstore.Cond{})
	t.is(err, fs.ErrNotExist, "dir/missing")
	_, err = t.store.Head(t.ctx, "dir")
	t.is(err, fs.ErrNotExist, "dir") // a prefix is no object
}

func testRanges(t *suite) {
	body := noise(1000, 3)
	t.put("r", body, objstore.PutOptions{})
	t.put("empty", "", objstore.PutOptions{})
	for _, tc := range []struct{ off, n, from, to int64 }{
		{0, 10, 0, 10}, {990, 10, 990, 1000}, {990, 11, 990, 1000}, {500, -1, 500, 1000},
		{999, math.MaxInt64, 999, 1000}, {0, 0, 0, 0}, {1000, -1, 0, 0}, {1000, 5, 0, 0}, {2000, 5, 0, 0},
	} {
		got, info, err := t.tryGet("r", tc.off, tc.n, objstore.Cond{})
		if err != nil || got != body[tc.from:tc.to] {
			t.Errorf("Get(%d, %d) = %s, %v", tc.off, tc.n, abridge(got), err)
		}
		if info.Size != 1000 || info.Rev == "" {
			t.Errorf("Get(%d, %d): %+v does not describe the object", tc.off, tc.n, info)
		}
	}
	if got, _, err := t.tryGet("empty", 0, 10, objstore.Cond{}); got != "" || err != nil {
		t.Errorf("Get of an empty object's range = %q, %v", got, err)
	}
}

func testPinned(t *suite) {
	old := t.put("p", "old", objstore.PutOptions{})
	if got, _, err := t.tryGet("p", 1, 2, objstore.Cond{If: old.Rev}); got != "ld" || err != nil {
		t.Fatalf("Get at its revision = %q, %v", got, err)
	}
	t.put("p", "new", objstore.PutOptions{})
	_, _, err := t.tryGet("p", 1, 2, objstore.Cond{If: old.Rev})
	t.is(err, objstore.ErrPrecondition, "/p")
}

// A reader that is open when its object is replaced sees one or the other.
func testOverwrite(t *suite) {
	old := strings.Repeat("o", 2<<20)
	t.put("o", old, objstore.PutOptions{})
	r, _, err := t.store.Get(t.ctx, "o", 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.put("o", "new", objstore.PutOptions{})
	b := make([]byte, 1<<10)
	for {
		n, err := r.Read(b)
		if strings.Trim(string(b[:n]), "o") != "" {
			t.Fatalf("read %q from the old object", b[:n])
		}
		if err != nil {
			break
		}
	}
	t.get("o", "new")
}

func testMetadata(t *suite) {
	meta := map[string]string{"mtime": "1700000000.123456789", "mode": "0100644", "blake3": strings.Repeat("ab", 32), "write-id": "w 1"}
	put := t.put("m", "body", objstore.PutOptions{Meta: meta})
	head := t.get("m", "body")
	if !sameMeta(head.Meta, meta) {
		t.Errorf("metadata is %v, want %v", head.Meta, meta)
	}
	if head.Rev != put.Rev {
		t.Errorf("Put returned revision %q, Head %q", put.Rev, head.Rev)
	}
	for info, err := range t.store.List(t.ctx, "", "") {
		if err != nil || info.Rev != put.Rev || info.Size != 4 || info.ModTime.IsZero() {
			t.Errorf("List yields %+v, %v; Put returned %+v", info, err, put)
		}
		if t.store.Caps().ListMeta != (info.Meta != nil) {
			t.Errorf("List yields metadata %v, Caps.ListMeta is %v", info.Meta, t.store.Caps().ListMeta)
		}
	}
	long := map[string]string{"long": strings.Repeat("x", 2000)}
	t.put("long", "body", objstore.PutOptions{Meta: long})
	if got := t.get("long", "body").Meta; !sameMeta(got, long) {
		t.Errorf("long metadata came back as %d bytes", len(got["long"]))
	}
	t.put("m", "body", objstore.PutOptions{})
	if got := t.get("m", "body").Meta; len(got) != 0 {
		t.Errorf("metadata %v outlived its object", got)
	}
}

func sameMeta(got, want map[string]string) bool {
	for k, v := range want {
		if got[k] != v {
			return false
		}
	}
	return len(got) == len(want)
}

// StrangeKeys are keys that every store must hold.
var StrangeKeys = []string{
	"a b", "a+b", "a%20b", "a%2Fb", "q?x=1&y=2", "h#frag", `quo"te'`, "back\\slash", "semi;colon,comma",
	"tab\tkey", "ünï/çödé", "日本/語.txt", "emoji😀", "dash-", "-dash", "~tilde", ".hidden", "a/.b/c", "...", "a=b@c:d",
	"<xml>&amp;", "[br]{ac}|`^$!*()", "trailing.", " space around ",
	strings.Repeat("n", 200), strings.Repeat("deep/", 60) + "file", strings.Repeat("長", 80),
}

func testKeys(t *suite) {
	for i, key := range StrangeKeys {
		t.put(key, fmt.Sprint(i), objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	}
	for i, key := range StrangeKeys {
		t.get(key, fmt.Sprint(i))
	}
	want := slices.Sorted(slices.Values(StrangeKeys))
	if got := t.keys("", ""); !slices.Equal(got, want) {
		t.Fatalf("List yields %q\nwant %q", got, want)
	}
	for _, key := range StrangeKeys {
		if got := t.keys(key, ""); len(got) == 0 || got[0] != key {
			t.Errorf("List(%q) yields %q", key, got)
		}
	}
	if err := t.store.Delete(t.ctx, StrangeKeys...); err != nil {
		t.Fatal(err)
	}
	if got := t.keys("", ""); len(got) != 0 {
		t.Errorf("after Delete List yields %q", got)
	}
}

func testAbsent(t *suite) {
	absent := objstore.PutOptions{Cond: objstore.Cond{Absent: true}}
	t.put("a/once", "first", absent)
	_, err := t.tryPut("a/once", "second", absent)
	t.is(err, objstore.ErrPrecondition, "a/once")
	t.get("a/once", "first")
	if err := t.store.Delete(t.ctx, "a/once"); err != nil {
		t.Fatal(err)
	}
	t.put("a/once", "third", absent)
}

func testCompare(t *suite) {
	first := t.put("c", "same", objstore.PutOptions{})
	second := t.put("c", "other", objstore.PutOptions{Cond: objstore.Cond{If: first.Rev}})
	if first.Rev == second.Rev {
		t.Fatalf("revision %q stayed over a write", first.Rev)
	}
	_, err := t.tryPut("c", "stale", objstore.PutOptions{Cond: objstore.Cond{If: first.Rev}})
	t.is(err, objstore.ErrPrecondition, "/c")
	t.get("c", "other")
	_, err = t.tryPut("missing", "x", objstore.PutOptions{Cond: objstore.Cond{If: first.Rev}})
	t.is(err, objstore.ErrPrecondition, "missing")
	_, _, err = t.tryGet("missing", 0, -1, objstore.Cond{If: first.Rev})
	if !errors.Is(err, objstore.ErrPrecondition) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pinned Get of a missing key: %v", err)
	}
}

func testRaceAbsent(t *suite) {
	for round := range 4 {
		race(t, fmt.Sprintf("log/%d", round), objstore.Cond{Absent: true})
	}
}

func testRaceCompare(t *suite) {
	rev := t.put("counter", "start", objstore.PutOptions{}).Rev
	for range 4 {
		rev = race(t, "counter", objstore.Cond{If: rev})
	}
}

// race writes key 32 times at once: exactly one writer may win, all others
// must see ErrPrecondition, and the object is the winner's.
func race(t *suite, key string, cond objstore.Cond) objstore.Rev {
	t.Helper()
	const writers = 32
	// Bodies of other races would do harm: an ETag comes back with its bytes.
	body := func(i int) string { return fmt.Sprintf("writer %02d over %q", i, cond.If) }
	var infos [writers]objstore.Info
	var errs [writers]error
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			infos[i], errs[i] = t.tryPut(key, body(i), objstore.PutOptions{Cond: cond})
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("writers %d and %d both won %q", winner, i, key)
		case err == nil:
			winner = i
		case !errors.Is(err, objstore.ErrPrecondition):
			t.Fatalf("writer %d of %q: %v", i, key, err)
		}
	}
	if winner < 0 {
		t.Fatalf("nobody won %q", key)
	}
	if head := t.get(key, body(winner)); head.Rev != infos[winner].Rev {
		t.Fatalf("%q has revision %q, the winner was told %q", key, head.Rev, infos[winner].Rev)
	}
	return infos[winner].Rev
}

// Writers and deleters of neighbours must not get in one another's way: a
// store on a file system makes and removes their common directories.
func testParallelPuts(t *suite) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				key := fmt.Sprintf("d/%d/e/%d", j%3, i)
				if _, err := t.tryPut(key, key, objstore.PutOptions{}); err != nil {
					t.Errorf("Put(%q): %v", key, err)
				}
				if got, _, err := t.tryGet(key, 0, -1, objstore.Cond{}); got != key || err != nil {
					t.Errorf("Get(%q) = %q, %v", key, got, err)
				}
				if err := t.store.Delete(t.ctx, key); err != nil {
					t.Errorf("Delete(%q): %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	if got := t.keys("", ""); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// A body that breaks or is short must leave nothing behind.
func testBody(t *suite) {
	t.put("b", "whole", objstore.PutOptions{})
	_, err := t.store.Put(t.ctx, "b", strings.NewReader("short"), 100, objstore.PutOptions{})
	t.is(err, fs.ErrInvalid, "") // nothing that another attempt would change
	t.get("b", "whole")
	late := strings.NewReader("0123456789")
	if _, err := late.Seek(7, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := t.store.Put(t.ctx, "b", late, 10, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	t.get("b", "0123456789") // from its start, wherever it stood
}

func testCancelled(t *suite) {
	t.put("k", "v", objstore.PutOptions{})
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	c := &suite{t.T, t.store, ctx}
	_, put := c.tryPut("k", "w", objstore.PutOptions{})
	_, _, get := c.tryGet("k", 0, -1, objstore.Cond{})
	_, head := t.store.Head(ctx, "k")
	var list error
	for _, err := range t.store.List(ctx, "", "") {
		list = err
	}
	for op, err := range map[string]error{"Put": put, "Get": get, "Head": head, "List": list, "Delete": t.store.Delete(ctx, "k")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled %s: %v", op, err)
		}
	}
	t.get("k", "v")
}
