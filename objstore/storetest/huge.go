package storetest

import (
	"io"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

// HugeSize is the size of the object for RunHuge: past all 32 bits, and past
// what one request of S3 moves.
const HugeSize = 6<<30 + 123

// marks are the offsets in a huge object of the only bytes that are not 0.
var marks = []int64{0, 1<<31 - 4, 1<<32 - 4, 5<<30 + 7, HugeSize - int64(len(mark))}

const mark = "mark0123"

// WriteHuge writes the content of a huge object, and leaves holes.
func WriteHuge(w io.WriterAt) error {
	for _, off := range marks {
		if _, err := w.WriteAt([]byte(mark), off); err != nil {
			return err
		}
	}
	return nil
}

// RunHuge tests the arithmetic of large objects on a store that holds, alone
// and at key, one that WriteHuge made. It leaves a small one in its place.
func RunHuge(t *testing.T, store objstore.Store, key string) {
	s := &suite{t, store, t.Context()}
	info, err := store.Head(s.ctx, key)
	if err != nil || info.Size != HugeSize || info.Rev == "" {
		t.Fatalf("Head: %+v, %v", info, err)
	}
	for listed, err := range store.List(s.ctx, "", "") {
		if err != nil || listed.Key != key || listed.Size != HugeSize || listed.Rev != info.Rev {
			t.Errorf("List yields %+v, %v", listed, err)
		}
	}
	s.hugeRanges(key, info.Rev)
	s.hugePlans()
	if store.Caps().RangeCopy {
		s.hugeDelta(key, info.Rev)
	}
}

func (t *suite) hugeRanges(key string, rev objstore.Rev) {
	pinned := objstore.Cond{If: rev}
	for _, off := range marks {
		got, info, err := t.tryGet(key, off, int64(len(mark)), pinned)
		if err != nil || got != mark || info.Size != HugeSize {
			t.Errorf("Get(%d) = %q, %+v, %v", off, got, info, err)
		}
	}
	for _, tc := range []struct {
		off, n int64
		want   string
	}{
		{1<<32 - 6, 12, "\x00\x00" + mark + "\x00\x00"},
		{HugeSize - 10, -1, "\x00\x00" + mark},
		{HugeSize - 10, 1 << 33, "\x00\x00" + mark},
		{HugeSize, -1, ""}, {HugeSize + 1<<32, 5, ""},
	} {
		if got, _, err := t.tryGet(key, tc.off, tc.n, pinned); err != nil || got != tc.want {
			t.Errorf("Get(%d, %d) = %q, %v; want %q", tc.off, tc.n, got, err, tc.want)
		}
	}
	r, info, err := t.store.Get(t.ctx, key, 0, -1, objstore.Cond{})
	if err != nil || info.Size != HugeSize {
		t.Fatalf("Get: %+v, %v", info, err)
	}
	defer r.Close()
	head := make([]byte, len(mark))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != mark {
		t.Errorf("Get of all begins with %q, %v", head, err)
	}
}

// hugePlans asks what the store would assemble.
func (t *suite) hugePlans() {
	caps := t.store.Caps()
	step := min(caps.MaxPart, 1<<30)
	var parts []objstore.Part
	for off := int64(0); off < HugeSize; off += step {
		parts = append(parts, objstore.Part{Size: min(step, HugeSize-off), Base: off, Body: strings.NewReader("")})
	}
	check := func(what string, baseSize int64, ok bool) {
		t.Helper()
		if err := caps.CheckParts(parts, baseSize); (err == nil) != ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("new parts", 0, true)
	if size, fresh := objstore.PartsSize(parts); size != HugeSize || fresh != HugeSize {
		t.Errorf("PartsSize = %d, %d", size, fresh)
	}
	for i := range parts {
		parts[i].Body = nil
	}
	check("all ranges", HugeSize, caps.RangeCopy)
	check("a range beyond the end", HugeSize-1, false)
	parts = []objstore.Part{{Size: HugeSize}, {Size: 1, Body: strings.NewReader("x")}}
	check("the whole at once", HugeSize, caps.Append && !caps.RangeCopy || caps.MaxPart >= HugeSize)
}

// hugeDelta keeps a range that begins beyond 4 GiB.
func (t *suite) hugeDelta(key string, rev objstore.Rev) {
	n := int64(t.part())
	info, err := t.store.Assemble(t.ctx, key, rev, []objstore.Part{{Base: 5 << 30, Size: n}, {Base: HugeSize - 10, Size: 10}}, nil,
		objstore.PutOptions{Cond: objstore.Cond{If: rev}})
	if err != nil || info.Size != n+10 {
		t.Fatalf("Assemble: %+v, %v", info, err)
	}
	want := strings.Repeat("\x00", 7) + mark + strings.Repeat("\x00", int(n)-15) + "\x00\x00" + mark
	t.get(key, want)
}
