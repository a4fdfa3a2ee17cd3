package storetest

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// The order of keys is not the order of a walk: "a-b" stands before "a/…".
func testListOrder(t *suite) {
	keys := []string{"a-b", "a.b", "a/b", "a/b-c", "a/b0", "a0", "a/z/1", "a/z/2", "a/z-", "b", "A", "ab", "é"}
	for _, key := range keys {
		t.put(key, "", objstore.PutOptions{})
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/z/", "a/z/1", "b", "none", "a//"} {
		for _, after := range append([]string{"", "a", "a/", "a/b", "a/z", "a/z/1", "a/zz", "zzz", "\x00", "a/b/x"}, keys...) {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := t.keys(prefix, after); !slices.Equal(got, want) {
				t.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
			}
		}
	}
	for range t.store.List(t.ctx, "", "") {
		break // a consumer may leave early
	}
}

func testListPages(t *suite, n int) {
	if testing.Short() {
		n = 1_100
	}
	want := t.fill(n)
	if got := t.keys("", ""); !slices.Equal(got, want) {
		t.Fatalf("List yields %d keys, want %d", len(got), n)
	}
	if got := t.keys("", want[n-5]); !slices.Equal(got, want[n-4:]) {
		t.Fatalf("List after %q yields %d keys, want 4", want[n-5], len(got))
	}
	if err := t.store.Delete(t.ctx, want...); err != nil {
		t.Fatal(err)
	}
	if got := t.keys("", ""); len(got) != 0 {
		t.Fatalf("%d keys outlived Delete", len(got))
	}
}

// fill writes n small objects, 16 at a time, and returns their keys in order.
func (t *suite) fill(n int) []string {
	t.Helper()
	keys := make([]string, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				keys[i] = fmt.Sprintf("page/%d/%05d", i%7, i)
				if _, err := t.tryPut(keys[i], "", objstore.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	slices.Sort(keys)
	return keys
}

func testDelete(t *suite) {
	t.put("d/1", "1", objstore.PutOptions{})
	t.put("d/2", "2", objstore.PutOptions{})
	if err := t.store.Delete(t.ctx, "d/1", "d/missing", "missing/d"); err != nil {
		t.Fatal(err)
	}
	if got := t.keys("", ""); !slices.Equal(got, []string{"d/2"}) {
		t.Fatalf("left: %q", got)
	}
	if err := t.store.Delete(t.ctx); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if err := t.store.Delete(t.ctx, "d/1"); err != nil {
		t.Errorf("Delete of a missing key: %v", err)
	}
	_, _, err := t.tryGet("d/1", 0, -1, objstore.Cond{})
	t.is(err, fs.ErrNotExist, "d/1")
}

func testBucket(t *suite) {
	t.exists(true)
	t.is(t.store.CreateBucket(t.ctx), fs.ErrExist, "")
	t.put("k", "v", objstore.PutOptions{})
	t.is(t.store.DeleteBucket(t.ctx), objstore.ErrNotEmpty, "")
	if err := t.store.Delete(t.ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if err := t.store.DeleteBucket(t.ctx); err != nil {
		t.Fatal(err)
	}
	t.exists(false)
	_, err := t.tryPut("k", "v", objstore.PutOptions{})
	t.is(err, objstore.ErrNoBucket, "")
	t.is(err, fs.ErrNotExist, "")
	_, _, err = t.tryGet("k", 0, -1, objstore.Cond{})
	t.is(err, objstore.ErrNoBucket, "")
	_, err = t.store.Head(t.ctx, "k")
	t.is(err, objstore.ErrNoBucket, "")
	var listed error
	for _, err := range t.store.List(t.ctx, "", "") {
		listed = err
	}
	t.is(listed, objstore.ErrNoBucket, "")
	t.is(t.store.DeleteBucket(t.ctx), objstore.ErrNoBucket, "")
	if err := t.store.CreateBucket(t.ctx); err != nil {
		t.Fatal(err)
	}
	t.exists(true)
	t.put("k", "v", objstore.PutOptions{})
}

func (t *suite) exists(want bool) {
	t.Helper()
	if got, err := t.store.BucketExists(t.ctx); got != want || err != nil {
		t.Fatalf("BucketExists = %v, %v; want %v", got, err, want)
	}
}
