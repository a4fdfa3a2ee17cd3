package objstore_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

var errLost = errors.New("connection lost")

// times returns a hook that fails n times for one operation.
func times(n int64, op objstore.Op, err error) func(objstore.Op, string) error {
	var left atomic.Int64
	left.Store(n)
	return func(o objstore.Op, _ string) error {
		if o == op && left.Add(-1) >= 0 {
			return err
		}
		return nil
	}
}

func putString(s objstore.Store, body string, opts objstore.PutOptions) (objstore.Info, error) {
	return s.Put(context.Background(), "k", strings.NewReader(body), int64(len(body)), opts)
}

// Every third request fails: nobody above Retry notices.
func TestRetryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store {
		m := storetest.NewMemory()
		var n atomic.Int64
		m.Before = func(op objstore.Op, _ string) error {
			// After a failed attempt a bucket that is gone counts as deleted.
			if n.Add(1)%3 == 0 && op != objstore.OpDeleteBucket && op != objstore.OpCreateBucket {
				return errLost
			}
			return nil
		}
		return objstore.Retry(m, objstore.Policy{Attempts: 50, First: time.Microsecond, Max: time.Microsecond})
	})
}

// A server that never answered gets little patience, one that did gets all.
func TestRetryUnreachable(t *testing.T) {
	m := storetest.NewMemory()
	attempts := 0
	away := func(op objstore.Op, _ string) error {
		attempts++
		return objstore.ErrUnreachable
	}
	s := objstore.Retry(m, objstore.Policy{Attempts: 6, First: time.Microsecond})
	for _, want := range []int{3, 6} {
		m.Before = away
		attempts = 0
		if _, err := putString(s, "x", objstore.PutOptions{}); !errors.Is(err, objstore.ErrUnreachable) || attempts != want {
			t.Errorf("%v after %d attempts, want %d", err, attempts, want)
		}
		m.Before = nil
		if _, err := putString(s, "x", objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRetryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		m.Before = times(1000, objstore.OpPut, errLost)
		var waits []time.Duration
		s := objstore.Retry(m, objstore.Policy{Attempts: 6, First: time.Second, Max: 4 * time.Second,
			OnRetry: func(_ objstore.Op, _ string, _ int, wait time.Duration, _ error) { waits = append(waits, wait) }})
		start := time.Now()
		if _, err := putString(s, "x", objstore.PutOptions{}); !errors.Is(err, errLost) {
			t.Fatalf("got %v", err)
		}
		var sum time.Duration
		for i, limit := range []time.Duration{1, 2, 4, 4, 4} {
			if waits[i] > limit*time.Second {
				t.Errorf("wait %d is %v, over %ds", i, waits[i], limit)
			}
			sum += waits[i]
		}
		if len(waits) != 5 || time.Since(start) != sum {
			t.Errorf("%d waits of %v took %v", len(waits), sum, time.Since(start))
		}
	})
}

// A store that asks for fewer requests gets fewer, and none before the time it says.
func TestRetryCalms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			err         error
			least, most []time.Duration // of every wait, in seconds
		}{
			{objstore.ErrThrottled, []time.Duration{2, 4, 8, 8}, []time.Duration{4, 8, 16, 16}},
			{&objstore.Throttled{After: 6 * time.Second, Err: errLost}, []time.Duration{6, 6, 8, 8}, []time.Duration{6, 8, 16, 16}},
			{&objstore.Throttled{After: time.Hour, Err: errLost}, []time.Duration{16, 16, 16, 16}, []time.Duration{16, 16, 16, 16}},
		} {
			m := storetest.NewMemory()
			m.Before = times(1000, objstore.OpHead, tc.err)
			var waits []time.Duration
			s := objstore.Retry(m, objstore.Policy{Attempts: 5, First: time.Second, Max: 16 * time.Second,
				OnRetry: func(_ objstore.Op, _ string, _ int, wait time.Duration, _ error) { waits = append(waits, wait) }})
			if _, err := s.Head(t.Context(), "k"); !errors.Is(err, objstore.ErrThrottled) {
				t.Errorf("got %v", err)
			}
			for i, wait := range waits {
				if wait < tc.least[i]*time.Second || wait > tc.most[i]*time.Second {
					t.Errorf("%v: wait %d is %v, want %d to %d s", tc.err, i, wait, tc.least[i], tc.most[i])
				}
			}
			if len(waits) != 4 {
				t.Errorf("%v: %d waits", tc.err, len(waits))
			}
		}
	})
}

func TestRetryLeavesLastingErrors(t *testing.T) {
	for _, lasting := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrExist, fs.ErrInvalid, objstore.ErrPrecondition, objstore.ErrNoBucket, context.Canceled} {
		m := storetest.NewMemory()
		m.Before = times(1, objstore.OpPut, lasting)
		s := objstore.Retry(m, objstore.Policy{OnRetry: func(objstore.Op, string, int, time.Duration, error) { t.Errorf("%v was tried again", lasting) }})
		if _, err := putString(s, "x", objstore.PutOptions{}); !errors.Is(err, lasting) {
			t.Errorf("got %v, want %v", err, lasting)
		}
	}
}

func TestRetryStopsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		m.Before = times(1000, objstore.OpHead, errLost)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := objstore.Retry(m, objstore.Policy{Attempts: 1000, First: time.Hour, Max: time.Hour}).Head(ctx, "k")
		if !errors.Is(err, errLost) || ctx.Err() == nil {
			t.Errorf("got %v before the context ended: %v", err, ctx.Err())
		}
	})
}

// A write that was applied, but whose answer was lost, meets itself.
func TestRetryKnowsItsOwnWrite(t *testing.T) {
	absent := objstore.Cond{Absent: true}
	for name, tc := range map[string]struct {
		meta    map[string]string
		theirs  map[string]string // metadata of another writer that came first, if any
		success bool
	}{
		"write id":        {meta: map[string]string{"write-id": "a"}, success: true},
		"content":         {meta: map[string]string{"blake3": "a", "writer": "w"}, success: true},
		"nothing to know": {meta: map[string]string{"mode": "0100644"}},
		"another's":       {meta: map[string]string{"write-id": "a"}, theirs: map[string]string{"write-id": "b"}},
		"another writer":  {meta: map[string]string{"blake3": "a", "writer": "w"}, theirs: map[string]string{"blake3": "a", "writer": "v"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := storetest.NewMemory()
			if tc.theirs != nil {
				if _, err := putString(m, "body", objstore.PutOptions{Meta: tc.theirs}); err != nil {
					t.Fatal(err)
				}
				m.Before = times(1, objstore.OpPut, errLost)
			} else {
				m.After = times(1, objstore.OpPut, errLost)
			}
			s := objstore.Retry(m, objstore.Policy{First: time.Nanosecond})
			info, err := putString(s, "body", objstore.PutOptions{Cond: absent, Meta: tc.meta})
			if tc.success != (err == nil) || err != nil && !errors.Is(err, objstore.ErrPrecondition) {
				t.Fatalf("got %v, want success %v", err, tc.success)
			}
			if head, _ := m.Head(t.Context(), "k"); err == nil && info.Rev != head.Rev {
				t.Errorf("revision %q, the store has %q", info.Rev, head.Rev)
			}
		})
	}
}

// A lost race without a lost answer is never taken for a success.
func TestRetryBelievesTheFirstAnswer(t *testing.T) {
	m := storetest.NewMemory()
	opts := objstore.PutOptions{Cond: objstore.Cond{Absent: true}, Meta: map[string]string{"blake3": "a"}}
	s := objstore.Retry(m, objstore.Policy{})
	if _, err := putString(s, "x", opts); err != nil {
		t.Fatal(err)
	}
	if _, err := putString(s, "x", opts); !errors.Is(err, objstore.ErrPrecondition) {
		t.Errorf("got %v", err)
	}
}

// A source that goes after the copy was made, and before it is made again, was
// copied.
func TestRetryKnowsItsOwnCopy(t *testing.T) {
	for name, tc := range map[string]struct {
		meta map[string]string
		want error
	}{
		"named":   {meta: map[string]string{"write-id": "a"}},
		"unnamed": {want: objstore.ErrPrecondition},
	} {
		m := storetest.NewMemory()
		src, err := putString(m, "body", objstore.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m.After = func(op objstore.Op, _ string) error {
			if op != objstore.OpCopy {
				return nil
			}
			return errors.Join(errLost, m.Delete(t.Context(), "k"))
		}
		info, err := objstore.Retry(m, objstore.Policy{First: time.Nanosecond}).Copy(t.Context(), "dst", "k", src.Rev, objstore.PutOptions{Meta: tc.meta})
		if !errors.Is(err, tc.want) || err == nil && info.Size != 4 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

// An Assemble whose answer was lost is looked for before all its bytes are
// sent again; without a name it is sent.
func TestRetryLooksBeforeItAssemblesAgain(t *testing.T) {
	for id, want := range map[string]int{"a": 1, "": 2} {
		m, assembled := storetest.NewMemory(), 0
		m.After = func(op objstore.Op, _ string) error {
			if op == objstore.OpAssemble {
				if assembled++; assembled == 1 {
					return errLost
				}
			}
			return nil
		}
		info, err := objstore.Retry(m, objstore.Policy{First: time.Nanosecond}).Assemble(t.Context(), "k", "",
			[]objstore.Part{{Size: 1, Body: strings.NewReader("x")}}, nil, objstore.PutOptions{Meta: map[string]string{"write-id": id}})
		if head, _ := m.Head(t.Context(), "k"); err != nil || info.Rev != head.Rev || assembled != want {
			t.Errorf("write-id %q: %+v, %v after %d writes, want %d", id, info, err, assembled, want)
		}
	}
}

// Somebody else's write over ours is not ours, and stays.
func TestRetryLeavesAnothersWrite(t *testing.T) {
	m := storetest.NewMemory()
	old, err := putString(m, "old", objstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lost := false
	m.After = func(op objstore.Op, _ string) error {
		if op != objstore.OpPut || lost {
			return nil
		}
		lost = true
		_, err := putString(m, "their", objstore.PutOptions{Meta: map[string]string{"write-id": "theirs"}})
		return errors.Join(errLost, err)
	}
	_, err = putString(objstore.Retry(m, objstore.Policy{First: time.Nanosecond}), "our", objstore.PutOptions{Cond: objstore.Cond{If: old.Rev}, Meta: map[string]string{"write-id": "ours"}})
	if b, _ := m.Bytes("k"); !errors.Is(err, objstore.ErrPrecondition) || string(b) != "their" {
		t.Errorf("got %v, the object is %q", err, b)
	}
}

func TestRetryDoesNotAskCheckAgain(t *testing.T) {
	m, torn, asked := storetest.NewMemory(), errors.New("file changed"), 0
	_, err := objstore.Retry(m, objstore.Policy{First: time.Nanosecond}).Assemble(t.Context(), "k", "",
		[]objstore.Part{{Size: 1, Body: strings.NewReader("x")}}, func() error { asked++; return torn }, objstore.PutOptions{})
	if !errors.Is(err, torn) || asked != 1 {
		t.Errorf("got %v after %d checks", err, asked)
	}
}

func TestRetryListGoesOn(t *testing.T) {
	m := storetest.NewMemory()
	want := []string{"a", "b", "c", "d", "e"}
	for _, key := range want {
		if _, err := m.Put(t.Context(), key, strings.NewReader(""), 0, objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	failed := map[string]bool{}
	m.After = func(op objstore.Op, key string) error {
		if op == objstore.OpList && !failed[key] {
			failed[key] = true
			return errLost
		}
		return nil
	}
	var got []string
	for info, err := range objstore.Retry(m, objstore.Policy{Attempts: 2, First: time.Nanosecond}).List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("List yields %q", got)
	}
}

// breaking is a store whose bodies break after a few bytes, every time.
type breaking struct {
	objstore.Store
	pieces int64
	change func() // called before a body breaks
}

func (b breaking) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	r, info, err := b.Store.Get(ctx, key, off, n, cond)
	if err != nil {
		return nil, info, err
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, b.pieces), broken{b.change})), info, nil
}

type broken struct{ change func() }

func (b broken) Read([]byte) (int, error) {
	if b.change != nil {
		b.change()
	}
	return 0, errLost
}

func TestRetryBodyGoesOn(t *testing.T) {
	m := storetest.NewMemory()
	if _, err := putString(m, "0123456789", objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func(s objstore.Store, off, n int64) (string, error) {
		r, _, err := objstore.Retry(s, objstore.Policy{Attempts: 2, First: time.Nanosecond}).Get(t.Context(), "k", off, n, objstore.Cond{})
		if err != nil {
			return "", err
		}
		defer r.Close()
		b, err := io.ReadAll(r) // also the last byte is followed by a break, not by EOF
		return string(b), err
	}
	for _, tc := range []struct {
		off, n int64
		want   string
	}{{0, -1, "0123456789"}, {3, -1, "3456789"}, {2, 5, "23456"}} {
		got, err := read(breaking{Store: m, pieces: 2}, tc.off, tc.n)
		if got != tc.want || err != nil {
			t.Errorf("Get(%d, %d) = %q, %v; want %q", tc.off, tc.n, got, err, tc.want)
		}
	}
	change := func() { putString(m, "ABCDEFGHIJ", objstore.PutOptions{}) }
	if got, err := read(breaking{m, 2, change}, 0, -1); !errors.Is(err, objstore.ErrPrecondition) || got != "01" {
		t.Errorf("over a change: %q, %v: two objects must not be mixed", got, err)
	}
}

func TestObserve(t *testing.T) {
	type call struct {
		op    objstore.Op
		bytes int64
		err   bool
	}
	var got []call
	m := storetest.NewMemory()
	s := objstore.Observe(m, func(op objstore.Op, took time.Duration, bytes int64, err error) {
		got = append(got, call{op, bytes, err != nil})
	})
	putString(s, "12345", objstore.PutOptions{})
	if r, _, err := s.Get(t.Context(), "k", 1, 3, objstore.Cond{}); err == nil {
		io.Copy(io.Discard, r)
		r.Close()
		r.Close()
	}
	s.Head(t.Context(), "missing")
	for range s.List(t.Context(), "", "") {
		break
	}
	s.Delete(t.Context(), "k")
	want := []call{{objstore.OpPut, 5, false}, {objstore.OpGet, 3, false}, {objstore.OpHead, 0, true}, {objstore.OpList, 0, false}, {objstore.OpDelete, 0, false}}
	if !slices.Equal(got, want) {
		t.Errorf("seen %v\nwant %v", got, want)
	}
}

func TestObserveKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store {
		return objstore.Observe(storetest.NewMemory(), func(objstore.Op, time.Duration, int64, error) {})
	})
}
