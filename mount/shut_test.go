package mount

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// A slowDelete is a store that deletes when it is too late to wait for.
type slowDelete struct {
	objstore.Store
	began chan struct{}
}

func (s slowDelete) Delete(ctx context.Context, keys ...string) error {
	close(s.began)
	<-ctx.Done()
	return s.Store.Delete(context.WithoutCancel(ctx), keys...)
}

// TestShut ends a mount while the store does a deletion: the journal says that
// it was done, and the state is free for the next.
func TestShut(t *testing.T) {
	began := make(chan struct{})
	m, _ := mounted(t, func(s objstore.Store) objstore.Store { return slowDelete{s, began} })
	if err := New(m.opt).prepare(); !errors.Is(err, ErrInUse) {
		t.Fatalf("second mount of one state: %v", err)
	}
	m.unlinkPath(manifest.Path("a"))
	<-began
	m.shut()
	j, err := openJournal(filepath.Join(m.opt.State, "journal"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if left := j.left(); len(left) > 0 {
		t.Errorf("left in the journal: %v", left)
	}
	again := New(m.opt)
	defer again.shut()
	if err := again.prepare(); err != nil {
		t.Error(err)
	}
}
