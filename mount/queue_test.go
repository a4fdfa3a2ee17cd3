package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// TestQueueBelow wants a directory's marker to wait for what is below it, at any
// depth, and for nothing else; and nothing to be kept of what is done.
func TestQueueBelow(t *testing.T) {
	q := newQueue()
	in := []*job{q.add("d/e/f"), q.add("d/g/"), q.add("d/")}
	out := []*job{q.add("dd/h"), q.add("c")}
	marker := q.add("d/")
	for _, j := range append(in, out...) {
		if got, want := slices.Contains(marker.after, j), slices.Contains(in, j); got != want {
			t.Errorf("marker waits for %q: %v, want %v", j.keys, got, want)
		}
	}
	for _, j := range append(append(in, out...), marker) {
		j.end()
	}
	if n := len(q.tail) + len(q.below) + len(q.open) + len(q.changes); n > 0 {
		t.Errorf("%d entries left", n)
	}
}

// BenchmarkQueueMarkers enters the markers of many directories beside each other.
func BenchmarkQueueMarkers(b *testing.B) {
	for b.Loop() {
		q := newQueue()
		for i := range 20_000 {
			q.add(fmt.Sprintf("from/%d/", i))
			q.add(fmt.Sprintf("to/%d/", i))
		}
	}
}

// TestQueueStuck drains jobs of which one is refused and one waits for that: it
// ends with the refusal when all others are done, but only when the refused one
// was tried again meanwhile.
func TestQueueStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		no := errors.New("no")
		refused, behind, other := q.add("d/"), q.add("d/f"), q.add("x")
		outer := q.addOuter(&atomic.Pointer[job]{})
		outer.inner.Store(behind)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() { _ = behind.turn(ctx) })
		round, urged := q.attempt()
		refused.hindered(no, round, true)
		var err error
		var drained atomic.Bool
		waiting.Go(func() {
			err = q.drain(t.Context())
			drained.Store(true)
		})
		<-urged
		other.end()
		synctest.Wait()
		if drained.Load() {
			t.Fatal("drained before the refused job was tried again")
		}
		round, _ = q.attempt()
		refused.hindered(no, round, true)
		synctest.Wait()
		if !drained.Load() {
			t.Error("not drained although nothing goes on")
		}
		cancel()
		waiting.Wait()
		if err != no {
			t.Errorf("drain: %v", err)
		}
		if n, why := q.troubled(); n != 1 || why != no {
			t.Errorf("%d in trouble, because of %v", n, why)
		}
	})
}

// TestQueueGivenUp has a job end that did not wait for its turn: the next on its
// key waits for the one before it all the same.
func TestQueueGivenUp(t *testing.T) {
	q := newQueue()
	first, second := q.add("k"), q.look("k")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := second.turn(over); err == nil {
		t.Fatal("two jobs on one key have their turn")
	}
	second.end()
	if !q.busy("k") {
		t.Error("the first job is not seen any more")
	}
	third := q.add("k")
	if err := third.turn(over); err == nil {
		t.Error("the third has its turn before the first is done")
	}
	first.end()
	if err := third.turn(t.Context()); err != nil {
		t.Error(err)
	}
	third.yield()
	third.end()
	if q.busy("k") || q.changing() > 0 {
		t.Error("something is left")
	}
}
