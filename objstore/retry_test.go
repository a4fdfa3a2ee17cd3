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
		m.Before = times(1000, objstore.OpPut, objstore.ErrThrottled)
		var waits []time.Duration
		s := objstore.Retry(m, objstore.Policy{Attempts: 6, First: time.Second, Max: 4 * time.Second,
			OnRetry: func(_ objstore.Op, _ string, _ int, wait time.Duration, _ error) { waits = append(waits, wait) }})
		start := time.Now()
		if _, err := putString(s, "x", objstore.PutOptions{}); !errors.Is(err, objstore.ErrThrottled) {
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
		b, err := io.ReadAll(io.LimitReader(r, 9)) // the tenth byte would be followed by a break, not by EOF
		return string(b), err
	}
	for _, tc := range []struct {
		off, n int64
		want   string
	}{{0, -1, "012345678"}, {3, -1, "3456789"}, {2, 5, "23456"}} {
		got, err := read(breaking{Store: m, pieces: 2}, tc.off, tc.n)
		if got != tc.want || err != nil && !errors.Is(err, errLost) {
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
