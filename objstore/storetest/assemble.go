package storetest

import (
	"errors"
	"io/fs"

	"github.com/skyagent/skyagent/objstore"
)

func testCopy(t *suite) {
	src := t.put("src", "body", objstore.PutOptions{Meta: map[string]string{"who": "src"}})
	dst, err := t.store.Copy(t.ctx, "to/dst", "src", src.Rev, objstore.PutOptions{Meta: map[string]string{"who": "dst"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := t.get("to/dst", "body"); got.Meta["who"] != "dst" || got.Rev != dst.Rev || dst.Size != 4 {
		t.Errorf("the copy is %+v, Copy returned %+v", got, dst)
	}
	if got := t.get("src", "body"); got.Rev != src.Rev {
		t.Errorf("Copy changed its source to %+v", got)
	}
	t.put("src", "else", objstore.PutOptions{})
	_, err = t.store.Copy(t.ctx, "to/dst", "src", src.Rev, objstore.PutOptions{})
	t.is(err, objstore.ErrPrecondition, "to/dst")
	t.get("to/dst", "body")
	_, err = t.store.Copy(t.ctx, "to/dst", "gone", src.Rev, objstore.PutOptions{})
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrPrecondition) {
		t.Errorf("Copy of a missing key: %v", err)
	}
	rev := t.get("src", "else").Rev
	_, err = t.store.Copy(t.ctx, "to/dst", "src", rev, objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	t.is(err, objstore.ErrPrecondition, "to/dst")
	_, err = t.store.Copy(t.ctx, "to/dst", "src", rev, objstore.PutOptions{Cond: objstore.Cond{If: rev}})
	t.is(err, objstore.ErrPrecondition, "to/dst")
	if _, err = t.store.Copy(t.ctx, "to/dst", "src", rev, objstore.PutOptions{Cond: objstore.Cond{If: dst.Rev}}); err != nil {
		t.Fatal(err)
	}
	t.get("to/dst", "else")
}

// part is the size of the parts that are tried: no smaller than the store takes.
func (t *suite) part() int { return int(max(t.store.Caps().MinPart, 64<<10)) }

func testAssembleNew(t *suite) {
	n := t.part()
	a, b, c := noise(n, 1), noise(n, 2), noise(100, 3)
	checks := 0
	info, err := t.store.Assemble(t.ctx, "big/new", "", []objstore.Part{fresh(a), fresh(b), fresh(c)},
		func() error { checks++; return nil },
		objstore.PutOptions{Cond: objstore.Cond{Absent: true}, Meta: map[string]string{"blake3": "abc"}})
	if err != nil || checks != 1 {
		t.Fatalf("Assemble: %v after %d checks", err, checks)
	}
	if got := t.get("big/new", a+b+c); got.Rev != info.Rev || info.Size != int64(2*n+100) || got.Meta["blake3"] != "abc" {
		t.Errorf("Assemble returned %+v, Head %+v", info, got)
	}
	_, err = t.store.Assemble(t.ctx, "big/new", "", []objstore.Part{fresh(c)}, nil, objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	t.is(err, objstore.ErrPrecondition, "big/new")
	t.get("big/new", a+b+c)
}

func testAssembleDelta(t *suite) {
	if !t.store.Caps().RangeCopy {
		t.Skip("the store cannot copy ranges")
	}
	n := t.part()
	a, b, c, d := noise(n, 1), noise(n, 2), noise(n, 3), noise(500, 4)
	old := t.put("delta", a+b+c, objstore.PutOptions{Meta: map[string]string{"v": "1"}})
	keep := func(i int) objstore.Part { return objstore.Part{Size: int64(n), Base: int64(i * n)} }
	opts := objstore.PutOptions{Cond: objstore.Cond{If: old.Rev}, Meta: map[string]string{"v": "2"}}
	x := noise(n, 9)
	info, err := t.store.Assemble(t.ctx, "delta", old.Rev, []objstore.Part{keep(0), keep(1), fresh(x), fresh(d)}, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := t.get("delta", a+b+x+d); got.Rev != info.Rev || got.Rev == old.Rev || got.Meta["v"] != "2" {
		t.Errorf("Assemble returned %+v, Head %+v", info, got)
	}
	_, err = t.store.Assemble(t.ctx, "delta", old.Rev, []objstore.Part{keep(0), fresh(d)}, nil, objstore.PutOptions{})
	t.is(err, objstore.ErrPrecondition, "/delta")
	t.get("delta", a+b+x+d)
}

func testAssembleRefuses(t *suite) {
	body := noise(t.part(), 5)
	old := t.put("r", "old", objstore.PutOptions{})
	// As lstat returns it: it must not be taken for an answer of the store's.
	var torn error = &fs.PathError{Op: "lstat", Path: "source", Err: fs.ErrNotExist}
	_, err := t.store.Assemble(t.ctx, "r", "", []objstore.Part{fresh(body)}, func() error { return torn }, objstore.PutOptions{})
	t.is(err, torn, "/r")
	t.get("r", "old")
	t.put("r", "newer", objstore.PutOptions{})
	_, err = t.store.Assemble(t.ctx, "r", "", []objstore.Part{fresh(body)}, nil, objstore.PutOptions{Cond: objstore.Cond{If: old.Rev}})
	t.is(err, objstore.ErrPrecondition, "/r")
	t.get("r", "newer")
	_, err = t.store.Assemble(t.ctx, "r", "", []objstore.Part{fresh(body), fresh("")}, nil, objstore.PutOptions{})
	t.is(err, fs.ErrInvalid, "/r")
	t.get("r", "newer")
	if got := t.keys("", ""); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
}
