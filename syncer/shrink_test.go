package syncer_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// A shrinking store has the file cut under its first large upload, and says of
// it what stores say of a body that ends early.
type shrinking struct {
	objstore.Store
	cut  func()
	once sync.Once
}

func (s *shrinking) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (info objstore.Info, err error) {
	s.once.Do(func() {
		s.cut()
		err = fmt.Errorf("body ends before byte %d: %w", parts[0].Size, fs.ErrInvalid)
	})
	if err != nil {
		return info, err
	}
	return s.Store.Assemble(ctx, key, base, parts, check, opts)
}

// A file that shrinks while it is sent is read again, and no failure.
func TestShrinksUnderUpload(t *testing.T) {
	r, j := judged(t)
	const size = 20 << 20
	if err := os.WriteFile(r.disk("large"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	st, err := r.sync(func(o *syncer.SourceOptions) {
		o.Store = &shrinking{Store: j, cut: func() {
			if err := os.Truncate(r.disk("large"), size-3); err != nil {
				t.Error(err)
			}
		}}
	})
	if err != nil || len(st.Failed) != 0 {
		t.Errorf("%v, failed %v", err, st.Failed)
	}
	if got := len(r.object("large")); got != size-3 {
		t.Errorf("the object has %d bytes, want %d", got, size-3)
	}
}
