package mount

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience: an upload that makes progress takes as long as it takes, and one
// that sends the same bytes again and again does not.
func TestPatience(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := patient(t.Context(), 30*time.Second)
		defer stop()
		s := &stage{file: file}
		if err := s.writeAt(ctx, make([]byte, 100), 0); err != nil {
			t.Fatal(err)
		}
		r, page := s.reader(ctx, 0), make([]byte, 10)
		for off := int64(0); off < 100; off += 10 {
			time.Sleep(29 * time.Second)
			if _, err := r.ReadAt(page, off); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(29 * time.Second)
		if ctx.Err() != nil {
			t.Fatal("given up in spite of progress")
		}
		if _, err := r.ReadAt(page, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("without progress the context's cause is %v, want that its deadline is over", cause)
		}
	})
}
