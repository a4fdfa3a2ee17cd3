package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// faulty is a bucket that is reached through a proxy, and past it.
type faulty struct {
	proxy   *servers.Proxy
	through *s3.Store
	direct  *s3.Store
}

// newFaulty returns a bucket of server's. stall is how long a request may hang; 0
// is the default.
func newFaulty(t *testing.T, server *servers.S3Server, stall time.Duration) faulty {
	t.Helper()
	f := faulty{proxy: servers.NewProxy(t, server.Endpoint)}
	bucket := server.NewBucket(t)
	f.direct = open(t, server, s3.Config{Bucket: bucket})
	behind := *server
	behind.Endpoint = f.proxy.URL
	f.through = open(t, &behind, s3.Config{Bucket: bucket, Stall: stall, Answer: stall})
	return f
}

// A deed is one operation on a key, after which the key holds want ("" is
// nothing). before is what it finds.
type deed struct {
	name   string
	before string // body at key; "" is no object
	want   string
	named  bool // carries a write-id, so that its own success can be known
	do     func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error
}

var (
	small = strings.Repeat("small new body. ", 100)
	old   = strings.Repeat("old body here.. ", 80)
	large = strings.Repeat("0123456789abcdef", 5<<20/16)
)

var deeds = []deed{
	{"Head", old, old, false, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		info, err := s.Head(ctx, key)
		if err == nil && (info.Rev != at || info.Size != int64(len(old)) || info.Meta["is"] != "old") {
			err = fmt.Errorf("Head says %+v", info)
		}
		return err
	}},
	{"Get", large, large, false, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		return readAll(ctx, s, key, 0, -1, objstore.Cond{}, large)
	}},
	{"Get range", large, large, false, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		return readAll(ctx, s, key, 1000, 100_000, objstore.Cond{If: at}, large[1000:101_000])
	}},
	{"Put", old, small, false, putSmall(objstore.Cond{})},
	{"Put empty", old, "", false, func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		_, err := s.Put(ctx, key, strings.NewReader(""), 0, opts)
		return err
	}},
	{"Put large", old, large, false, func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		_, err := s.Put(ctx, key, strings.NewReader(large), int64(len(large)), opts)
		return err
	}},
	{"Put absent", "", small, true, putSmall(objstore.Cond{Absent: true})},
	{"Put if", old, small, true, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error {
		return putSmall(objstore.Cond{If: at})(ctx, s, key, at, opts)
	}},
	{"Assemble", old, large + small, false, func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		_, err := s.Assemble(ctx, key, "", []objstore.Part{fresh(large), fresh(small)}, nil, opts)
		return err
	}},
	{"Assemble delta", large + old, large + small, true, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = objstore.Cond{If: at}
		_, err := s.Assemble(ctx, key, at, []objstore.Part{{Size: int64(len(large))}, fresh(small)}, nil, opts)
		return err
	}},
	{"Copy", old, large, false, copyOf(objstore.Cond{})},
	{"Copy absent", "", large, true, copyOf(objstore.Cond{Absent: true})},
	{"List", old, old, false, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		n := 0
		for info, err := range s.List(ctx, key, "") {
			if err != nil {
				return err
			}
			if n++; info.Key != key || info.Rev != at || info.Size != int64(len(old)) {
				return fmt.Errorf("List yields %+v", info)
			}
		}
		if n != 1 {
			return fmt.Errorf("List yields %d objects", n)
		}
		return nil
	}},
	{"Delete", old, "", false, func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, _ objstore.PutOptions) error {
		return s.Delete(ctx, key)
	}},
	{"Delete batch", old, "", false, func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, _ objstore.PutOptions) error {
		return s.Delete(ctx, key, key+"-missing", key+" missing too")
	}},
}

func putSmall(cond objstore.Cond) func(context.Context, objstore.Store, string, objstore.Rev, objstore.PutOptions) error {
	return func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = cond
		_, err := s.Put(ctx, key, strings.NewReader(small), int64(len(small)), opts)
		return err
	}
}

func copyOf(cond objstore.Cond) func(context.Context, objstore.Store, string, objstore.Rev, objstore.PutOptions) error {
	return func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = cond
		src, err := s.Head(ctx, "source")
		if err != nil {
			return err
		}
		_, err = s.Copy(ctx, key, "source", src.Rev, opts)
		return err
	}
}

func fresh(s string) objstore.Part {
	return objstore.Part{Size: int64(len(s)), Body: strings.NewReader(s)}
}

func readAll(ctx context.Context, s objstore.Store, key string, off, n int64, cond objstore.Cond, want string) error {
	r, _, err := s.Get(ctx, key, off, n, cond)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && string(b) != want {
		err = fmt.Errorf("read %d bytes that are not the %d", len(b), len(want))
	}
	return err
}

// TestFaults does every operation with every fault at each of its requests.
func TestFaults(t *testing.T) {
	server := servers.Versitygw(t)
	for _, d := range deeds {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			newFaulty(t, server, 0).tryAll(t, d, 1, servers.Passing)
			// On a busy machine more than what hangs takes that long.
			newFaulty(t, server, 200*time.Millisecond).tryAll(t, d, 5, []servers.Fault{servers.Hang, servers.Stall})
		})
	}
}

// tryAll does d with each of faults, at each request.
func (f faulty) tryAll(t *testing.T, d deed, retries int, faults []servers.Fault) {
	put(t, f.direct, "source", large)
	for _, fault := range faults {
		for n := 0; f.try(t, d, fault, n, retries); n++ {
		}
	}
}

// try does d with a fault at its nth request, and reports whether it came to
// that request. At most so many retries may get over it.
func (f faulty) try(t *testing.T, d deed, fault servers.Fault, n, most int) bool {
	t.Helper()
	what := fmt.Sprintf("%s at request %d", fault, n)
	key := fmt.Sprintf("%s/%v/%d", d.name, fault, n)
	var at objstore.Rev
	if d.before != "" {
		info, err := f.direct.Put(t.Context(), key, strings.NewReader(d.before), int64(len(d.before)), objstore.PutOptions{Meta: map[string]string{"is": "old"}})
		if err != nil {
			t.Fatal(err)
		}
		at = info.Rev
	}
	meta := map[string]string{"is": "new"}
	if d.named {
		meta["write-id"] = key
	}
	decide, came := servers.Once(n, fault)
	f.proxy.Decide(decide)
	retries := 0
	s := objstore.Retry(f.through, objstore.Policy{First: time.Millisecond, OnRetry: func(_ objstore.Op, _ string, _ int, _ time.Duration, err error) {
		retries++
		if retries > most {
			t.Errorf("%s: tried again once more: %v", what, err)
		}
	}})
	if err := d.do(t.Context(), s, key, at, objstore.PutOptions{Meta: meta}); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	f.proxy.Decide(nil)
	f.whole(t, d, what, key, meta)
	return came()
}

// whole checks past the proxy that key holds what d leaves.
func (f faulty) whole(t *testing.T, d deed, what, key string, meta map[string]string) {
	t.Helper()
	info, err := f.direct.Head(t.Context(), key)
	if d.want == "" && strings.HasPrefix(d.name, "Delete") {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: after Delete: %v", what, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: afterwards: %v", what, err)
		return
	}
	if d.before == d.want {
		meta = map[string]string{"is": "old"}
	}
	if !maps.Equal(info.Meta, meta) {
		t.Errorf("%s: metadata is %v, want %v", what, info.Meta, meta)
	}
	if got := get(t, f.direct, key); got != d.want {
		t.Errorf("%s: the object has %d bytes, want %d, or others", what, len(got), len(d.want))
	}
}

// A conditional write without a name whose answer is lost stays doubtful: the
// caller is told, and what it wrote is whole.
func TestFaultsDoubtful(t *testing.T) {
	f := newFaulty(t, servers.Versitygw(t), 0)
	put(t, f.direct, "source", large)
	for _, d := range deeds {
		if !d.named {
			continue
		}
		d.named = false
		t.Run(d.name, func(t *testing.T) { f.doubt(t, d) })
	}
}

// doubt loses the answers of all that makes d's write visible.
func (f faulty) doubt(t *testing.T, d deed) {
	var at objstore.Rev
	if d.before != "" {
		at = put(t, f.direct, d.name, d.before).Rev
	}
	lost := false
	f.proxy.Decide(func(r *http.Request) servers.Fault {
		q := r.URL.Query()
		visible := r.Method == http.MethodPost && q.Has("uploadId") || r.Method == http.MethodPut && !q.Has("partNumber")
		if visible && !lost {
			lost = true
			return servers.Lose
		}
		return servers.Pass
	})
	defer f.proxy.Decide(nil)
	meta := map[string]string{"is": "new"}
	err := d.do(t.Context(), objstore.Retry(f.through, objstore.Policy{First: time.Millisecond}), d.name, at, objstore.PutOptions{Meta: meta})
	if !errors.Is(err, objstore.ErrPrecondition) {
		t.Errorf("got %v", err)
	}
	f.whole(t, d, "doubtful", d.name, meta)
}

// What the proxy cannot be asked twice about has a name.
func TestFaultNames(t *testing.T) {
	f := newFaulty(t, servers.Versitygw(t), 0)
	for fault, want := range map[servers.Fault]error{
		servers.Forbid:          fs.ErrPermission,
		servers.SlowDown:        objstore.ErrThrottled,
		servers.TooManyRequests: objstore.ErrThrottled,
	} {
		f.proxy.Decide(func(*http.Request) servers.Fault { return fault })
		for _, d := range deeds {
			err := d.do(t.Context(), f.through, "k", "r", objstore.PutOptions{})
			if fault == servers.SlowDown && (d.name == "Head" || strings.HasPrefix(d.name, "Copy")) {
				continue // the answer to a HEAD has a status only, and 503 is no name
			}
			if !errors.Is(err, want) {
				t.Errorf("%s of %s: got %v, want %v", fault, d.name, err, want)
			}
		}
	}
}

// A connection that ends in the middle of a body makes no object of the half.
func TestHalfOfABodyIsNoObject(t *testing.T) {
	server := servers.Versitygw(t)
	f := newFaulty(t, server, 0)
	body := large[:64<<10]
	f.proxy.Decide(func(*http.Request) servers.Fault { return servers.BreakRequest })
	for i := range 50 {
		if _, err := f.through.Put(t.Context(), fmt.Sprint(i), strings.NewReader(body), int64(len(body)), objstore.PutOptions{}); err == nil {
			t.Fatal("no error")
		}
	}
	server.Stop() // it ends what it began
	server.Start(t)
	for info, err := range f.direct.List(t.Context(), "", "") {
		t.Errorf("%+v, %v", info, err)
	}
}
