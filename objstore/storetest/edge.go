package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// longest is a key of 1,024 bytes, which every store takes, cut into segments
// that a file system takes.
var longest = strings.Repeat(strings.Repeat("s", 199)+"/", 5) + strings.Repeat("t", 24)

func testLongKeys(t *suite) {
	wide := strings.Repeat(strings.Repeat("é", 99)+"/", 5) + strings.Repeat("ü", 14)
	wide += strings.Repeat("w", len(longest)-len(wide))
	for _, key := range []string{longest, wide} {
		info := t.put(key, "long", objstore.PutOptions{Meta: map[string]string{"who": "put"}})
		t.get(key, "long")
		if got := t.keys(key[:strings.LastIndex(key, "/")], ""); !slices.Equal(got, []string{key}) {
			t.Errorf("List yields %q", got)
		}
		other := key[:len(key)-1] + "o"
		if _, err := t.store.Copy(t.ctx, other, key, info.Rev, objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := t.store.Assemble(t.ctx, key, "", []objstore.Part{fresh("whole")}, nil, objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		t.get(other, "long")
		t.get(key, "whole")
		if err := t.store.Delete(t.ctx, key, other); err != nil {
			t.Fatal(err)
		}
	}
	if got := t.keys("", ""); len(got) != 0 {
		t.Errorf("after Delete List yields %q", got)
	}
}

// What is no key is refused before it does harm: to S3, an object without a
// name is the bucket.
func testNoKeys(t *suite) {
	src := t.put("k", "v", objstore.PutOptions{})
	for _, key := range []string{"", longest + "t", strings.Repeat("s", 5000)} {
		_, err := t.tryPut(key, "x", objstore.PutOptions{})
		t.is(err, fs.ErrInvalid, "")
		_, err = t.store.Assemble(t.ctx, key, "", []objstore.Part{fresh("x")}, nil, objstore.PutOptions{})
		t.is(err, fs.ErrInvalid, "")
		_, err = t.store.Copy(t.ctx, key, "k", src.Rev, objstore.PutOptions{})
		t.is(err, fs.ErrInvalid, "")
		_, head := t.store.Head(t.ctx, key)
		_, _, get := t.tryGet(key, 0, -1, objstore.Cond{})
		_, copied := t.store.Copy(t.ctx, "c", key, src.Rev, objstore.PutOptions{})
		for what, err := range map[string]error{"Head": head, "Get": get, "Copy": copied} {
			if !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrPrecondition) {
				t.Errorf("%s of a key of %d bytes: %v", what, len(key), err)
			}
		}
		if err := t.store.Delete(t.ctx, key); err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Delete of a key of %d bytes: %v", len(key), err)
		}
	}
	if got := t.keys("", ""); !slices.Equal(got, []string{"k"}) {
		t.Errorf("the bucket holds %q", got)
	}
}

// More keys than one request takes, and such as cannot stand in it.
func testDeleteMany(t *suite) {
	keys := t.fill(1_100)
	for _, key := range slices.Concat(StrangeKeys, []string{"bell\a", "line\nfeed", "\x7f"}) {
		t.put(key, "", objstore.PutOptions{})
		keys = append(keys, key, key+" is missing")
	}
	t.put("stays", "", objstore.PutOptions{})
	if err := t.store.Delete(t.ctx, keys...); err != nil {
		t.Fatal(err)
	}
	if got := t.keys("", ""); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("left: %q", got)
	}
}

// An object without bytes has metadata all the same.
func testEmpty(t *suite) {
	meta := func(who string) objstore.PutOptions {
		return objstore.PutOptions{Meta: map[string]string{"who": who, "write-id": "of " + who}}
	}
	src := t.put("put", "", meta("put"))
	if _, err := t.store.Copy(t.ctx, "copy", "put", src.Rev, meta("copy")); err != nil {
		t.Fatal(err)
	}
	if _, err := t.store.Assemble(t.ctx, "assemble", "", nil, nil, meta("assemble")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"put", "copy", "assemble"} {
		if got := t.get(key, "").Meta; !sameMeta(got, meta(key).Meta) {
			t.Errorf("%s: metadata is %v", key, got)
		}
	}
}

func testRaceCopy(t *suite) {
	if !t.store.Caps().CondCopy {
		t.Skip("the store cannot copy under a condition")
	}
	const writers = 32
	var srcs [writers]objstore.Info
	for i := range srcs {
		srcs[i] = t.put(fmt.Sprintf("src/%d", i), fmt.Sprintf("source %d", i), objstore.PutOptions{})
	}
	cond := objstore.Cond{Absent: true}
	for range 4 {
		cond = objstore.Cond{If: raceCopy(t, srcs[:], cond)}
		// The next round must not bring back a revision with its bytes.
		cond.If = t.put("dst", string(cond.If)+" is over", objstore.PutOptions{Cond: cond}).Rev
	}
}

// raceCopy copies all of srcs to one key at once: exactly one may win.
func raceCopy(t *suite, srcs []objstore.Info, cond objstore.Cond) objstore.Rev {
	infos, errs := make([]objstore.Info, len(srcs)), make([]error, len(srcs))
	var wg sync.WaitGroup
	for i, src := range srcs {
		wg.Go(func() {
			infos[i], errs[i] = t.store.Copy(t.ctx, "dst", src.Key, src.Rev, objstore.PutOptions{Cond: cond})
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("copies %d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, objstore.ErrPrecondition):
			t.Fatalf("copy %d: %v", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	if head := t.get("dst", fmt.Sprintf("source %d", winner)); head.Rev != infos[winner].Rev {
		t.Fatalf("revision %q, the winner was told %q", head.Rev, infos[winner].Rev)
	}
	return infos[winner].Rev
}

const lengthy = 16 << 20 // bytes: more than what is on its way at any time

// A reader whose context ends in the middle of a body is told so, soon.
func testCancelledGet(t *suite) {
	t.put("k", strings.Repeat("x", lengthy), objstore.PutOptions{})
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	r, _, err := t.store.Get(ctx, "k", 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) || n > lengthy/2 {
		t.Errorf("read %d bytes more, %v", n, err)
	}
}

// A Put whose context ends in the middle of the body stores nothing. A store
// may read the body twice.
func testCancelledPut(t *suite) {
	t.put("old", "old", objstore.PutOptions{})
	for lap := 1; lap <= 2; lap++ {
		for _, key := range []string{"old", "new"} {
			ctx, cancel := context.WithCancel(t.ctx)
			body := &cancelling{Reader: strings.NewReader(strings.Repeat("y", lengthy)), lap: lap, cancel: cancel}
			_, err := t.store.Put(ctx, key, body, lengthy, objstore.PutOptions{})
			ended := ctx.Err() != nil
			cancel()
			if !ended {
				return // it is read once
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled in lap %d: %v", lap, err)
			}
		}
		t.get("old", "old")
		if got := t.keys("", ""); !slices.Equal(got, []string{"old"}) {
			t.Errorf("cancelled in lap %d: the bucket holds %q", lap, got)
		}
	}
}

// A cancelling body ends its context a quarter through.
type cancelling struct {
	*strings.Reader
	lap    int // from its start, how many times until then
	cancel context.CancelFunc
}

func (c *cancelling) Seek(off int64, whence int) (int64, error) {
	if off == 0 && whence == io.SeekStart {
		c.lap--
	}
	return c.Reader.Seek(off, whence)
}

func (c *cancelling) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p[:min(len(p), 64<<10)])
	if c.lap <= 0 && c.Len() < lengthy*3/4 {
		c.cancel()
	}
	return n, err
}

// WriteTo would pass Read by.
func (c *cancelling) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// Every name of an error that can be had from any store.
func testNames(t *suite) {
	rev := t.put("k", "v", objstore.PutOptions{}).Rev
	t.put("k", "w", objstore.PutOptions{})
	for name, tc := range map[string]struct {
		want error
		do   func() error
	}{
		"ErrNotExist": {fs.ErrNotExist, func() error { _, err := t.store.Head(t.ctx, "missing"); return err }},
		"ErrExist":    {fs.ErrExist, func() error { return t.store.CreateBucket(t.ctx) }},
		"ErrPrecondition": {objstore.ErrPrecondition, func() error {
			_, err := t.tryPut("k", "x", objstore.PutOptions{Cond: objstore.Cond{If: rev}})
			return err
		}},
		"ErrInvalid": {fs.ErrInvalid, func() error {
			_, err := t.store.Put(t.ctx, "k", strings.NewReader("short"), 10, objstore.PutOptions{})
			return err
		}},
		"Canceled": {context.Canceled, func() error {
			ctx, cancel := context.WithCancel(t.ctx)
			cancel()
			_, err := t.store.Head(ctx, "k")
			return err
		}},
	} {
		t.Run(name, func(sub *testing.T) { (&suite{sub, t.store, t.ctx}).is(tc.do(), tc.want, "") })
	}
}
