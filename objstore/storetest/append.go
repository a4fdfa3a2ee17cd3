package storetest

import (
	"io/fs"
	"slices"

	"github.com/skyagent/skyagent/objstore"
)

// A file that grew, as logs do: its base is copied whole, its end is new.
func testAssembleAppend(t *suite) {
	if caps := t.store.Caps(); !caps.Append && !caps.RangeCopy {
		t.Skip("the store cannot copy a base")
	}
	body, tail, more := noise(t.part(), 1), noise(100, 2), noise(t.part(), 3)
	old := t.put("grow", body, objstore.PutOptions{Meta: map[string]string{"v": "1"}})
	whole := func(of string) objstore.Part { return objstore.Part{Size: int64(len(of))} }
	checks := 0
	info, err := t.store.Assemble(t.ctx, "grow", old.Rev, []objstore.Part{whole(body), fresh(more), fresh(tail)},
		func() error { checks++; return nil },
		objstore.PutOptions{Cond: objstore.Cond{If: old.Rev}, Meta: map[string]string{"w": "2"}})
	if err != nil || checks != 1 {
		t.Fatalf("Assemble: %v after %d checks", err, checks)
	}
	grown := body + more + tail
	if got := t.get("grow", grown); got.Rev != info.Rev || got.Rev == old.Rev || !sameMeta(got.Meta, map[string]string{"w": "2"}) {
		t.Errorf("Assemble returned %+v, Head %+v", info, got)
	}

	_, err = t.store.Assemble(t.ctx, "grow", old.Rev, []objstore.Part{whole(body), fresh(tail)}, nil, objstore.PutOptions{})
	t.is(err, objstore.ErrPrecondition, "/grow")
	_, err = t.store.Assemble(t.ctx, "grow", info.Rev, []objstore.Part{whole(grown), fresh(tail)}, nil,
		objstore.PutOptions{Cond: objstore.Cond{If: old.Rev}})
	t.is(err, objstore.ErrPrecondition, "/grow")
	var torn error = &fs.PathError{Op: "lstat", Path: "source", Err: fs.ErrNotExist}
	_, err = t.store.Assemble(t.ctx, "grow", info.Rev, []objstore.Part{whole(grown), fresh(tail)}, func() error { return torn }, objstore.PutOptions{})
	t.is(err, torn, "/grow")
	t.get("grow", grown)

	// What was grown grows once more.
	if _, err = t.store.Assemble(t.ctx, "grow", info.Rev, []objstore.Part{whole(grown), fresh(tail)}, nil, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := t.get("grow", grown+tail); len(got.Meta) != 0 {
		t.Errorf("metadata %v outlived its object", got.Meta)
	}
	if got := t.keys("", ""); !slices.Equal(got, []string{"grow"}) {
		t.Errorf("left behind: %q", got)
	}
}
