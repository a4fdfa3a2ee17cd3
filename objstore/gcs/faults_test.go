package gcs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

// A deed is one operation on a key that is at a revision, after which the key
// holds want; "" is no object. before is what it finds.
type deed struct {
	name         string
	before, want string
	do           func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error
}

var (
	old   = strings.Repeat("old body here.. ", 80)
	fresh = strings.Repeat("small new body. ", 100)
	large = pattern(5 * mib)
	huge  = pattern(17 * mib) // two chunks of a resumable upload
)

var deeds = []deed{
	{"Head", old, old, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		info, err := s.Head(ctx, key)
		if err == nil && (info.Rev != at || info.Size != int64(len(old))) {
			err = fmt.Errorf("Head says %+v", info)
		}
		return err
	}},
	{"List", old, old, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, _ objstore.PutOptions) error {
		for info, err := range s.List(ctx, key, "") {
			if err != nil || info.Rev != at {
				return fmt.Errorf("List yields %+v, %w", info, err)
			}
		}
		return nil
	}},
	{"Put", old, fresh, putOf(fresh, func(objstore.Rev) objstore.Cond { return objstore.Cond{} })},
	{"Put absent", "", fresh, putOf(fresh, func(objstore.Rev) objstore.Cond { return objstore.Cond{Absent: true} })},
	{"Put if", old, fresh, putOf(fresh, func(at objstore.Rev) objstore.Cond { return objstore.Cond{If: at} })},
	{"Put large if", old, large, putOf(large, func(at objstore.Rev) objstore.Cond { return objstore.Cond{If: at} })},
	{"Put chunks if", old, huge, putOf(huge, func(at objstore.Rev) objstore.Cond { return objstore.Cond{If: at} })},
	{"Append", large, large + fresh, func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = objstore.Cond{If: at}
		parts := []objstore.Part{{Size: int64(len(large))}, {Size: int64(len(fresh)), Body: strings.NewReader(fresh)}}
		_, err := s.Assemble(ctx, key, at, parts, nil, opts)
		return err
	}},
	{"Copy", old, large, copyOf(objstore.Cond{})},
	{"Copy absent", "", large, copyOf(objstore.Cond{Absent: true})},
	{"Delete", old, "", func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, _ objstore.PutOptions) error {
		return s.Delete(ctx, key, key+"-missing")
	}},
}

func putOf(body string, cond func(objstore.Rev) objstore.Cond) func(context.Context, objstore.Store, string, objstore.Rev, objstore.PutOptions) error {
	return func(ctx context.Context, s objstore.Store, key string, at objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = cond(at)
		_, err := s.Put(ctx, key, strings.NewReader(body), int64(len(body)), opts)
		return err
	}
}

func copyOf(cond objstore.Cond) func(context.Context, objstore.Store, string, objstore.Rev, objstore.PutOptions) error {
	return func(ctx context.Context, s objstore.Store, key string, _ objstore.Rev, opts objstore.PutOptions) error {
		opts.Cond = cond
		_, err := s.Copy(ctx, key, "source", "", opts)
		return err
	}
}

// TestFaults does every operation with every fault at each of its requests.
func TestFaults(t *testing.T) {
	server := servers.GCS(t)
	for _, d := range deeds {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			newFaulty(t, server, 0).tryAll(t, d, servers.Passing)
			// On a busy machine more than what hangs takes that long.
			newFaulty(t, server, 500*time.Millisecond).tryAll(t, d, []servers.Fault{servers.Hang, servers.Stall})
		})
	}
}

// tryAll does d with each of faults, at each request.
func (f faulty) tryAll(t *testing.T, d deed, faults []servers.Fault) {
	put(t, f.direct, "source", large)
	for _, fault := range faults {
		for n := 0; f.try(t, d, fault, n); n++ {
		}
	}
	for _, key := range keys(t, f.direct, ".skyagent/") {
		t.Errorf("left behind: %q", key)
	}
}

// try does d with a fault at its nth request, and reports whether it came to
// that request.
func (f faulty) try(t *testing.T, d deed, fault servers.Fault, n int) bool {
	t.Helper()
	what, key := fmt.Sprintf("%s at request %d", fault, n), fmt.Sprintf("%s/%v/%d", d.name, fault, n)
	var at objstore.Rev
	if d.before != "" {
		at = put(t, f.direct, key, d.before).Rev
	}
	decide, came := servers.Once(n, fault)
	f.proxy.Decide(decide)
	s := objstore.Retry(f.through, objstore.Policy{First: time.Millisecond})
	if err := d.do(t.Context(), s, key, at, objstore.PutOptions{Meta: map[string]string{"write-id": key}}); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	f.proxy.Decide(nil)
	if d.want == "" {
		if _, err := f.direct.Head(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: afterwards: %v", what, err)
		}
		return came()
	}
	if got := get(t, f.direct, key); got != d.want {
		t.Errorf("%s: the object has %d bytes, want %d, or others", what, len(got), len(d.want))
	}
	return came()
}
