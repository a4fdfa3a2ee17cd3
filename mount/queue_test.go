package mount

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestQueueOrder holds jobs that touch each other to the order in which they
// were added, and lets the others go ahead.
func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		var mu sync.Mutex
		var order []string
		hold := q.add("a/b")
		run := func(name string, keys ...string) {
			j := q.add(keys...)
			go func() {
				defer j.end()
				if err := j.turn(context.Background()); err != nil {
					t.Error(err)
					return
				}
				defer j.yield()
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			}()
		}
		run("same", "a/b")
		run("moved", "a/b", "c")
		run("target", "c")
		run("gone directory", "a/")
		run("file in its place", "a")
		run("apart", "x")
		synctest.Wait()
		if !slices.Equal(order, []string{"apart"}) {
			t.Errorf("while the first is under way: %q", order)
		}
		hold.end()
		if err := q.drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		at := func(name string) int { return slices.Index(order, name) }
		for _, pair := range [][2]string{{"same", "moved"}, {"moved", "target"}, {"moved", "gone directory"}, {"gone directory", "file in its place"}} {
			if at(pair[0]) > at(pair[1]) {
				t.Errorf("%q came after %q: %q", pair[0], pair[1], order)
			}
		}
		if n := q.changing(); n != 0 {
			t.Errorf("%d jobs left", n)
		}
	})
}
