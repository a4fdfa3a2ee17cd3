package mount

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKids does what a map would do, and compares.
func TestKids(t *testing.T) {
	for _, names := range []int{3, 200, 5000} { // one run, and many
		testKids(t, names)
	}
	var none *kids
	if none.len() != 0 || none.get("a") != nil {
		t.Error("a file has kids")
	}
	for range none.all() {
		t.Error("a file has kids")
	}
}

func testKids(t *testing.T, few int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	got, want := &kids{}, map[string]*node{}
	for i := range 20 * few {
		n := &node{name: fmt.Sprint(rnd.IntN(few))}
		if fill := i/few%2 == 0; rnd.IntN(10) < 7 == fill { // full, and nearly empty again

			got.put(n)
			want[n.name] = n
		} else {
			got.drop(n.name)
			delete(want, n.name)
		}
		if name := fmt.Sprint(rnd.IntN(few)); got.get(name) != want[name] {
			t.Fatalf("get(%q) is %v, want %v", name, got.get(name), want[name])
		}
	}
	names := (&node{kids: got}).names()
	if len(names) != len(want) || !slices.IsSorted(names) {
		t.Errorf("%d names, sorted %t; want %d, sorted", len(names), slices.IsSorted(names), len(want))
	}
	if got.len() != len(want) {
		t.Errorf("len is %d, want %d", got.len(), len(want))
	}
	for name := range want {
		got.drop(name)
	}
	if got.len() != 0 || len(got.runs) != 0 {
		t.Errorf("%d names in %d runs, want none", got.len(), len(got.runs))
	}
}

// BenchmarkKids removes the first name of a directory and makes it again: that
// costs the same in one of a million names.
func BenchmarkKids(b *testing.B) {
	for _, names := range []int{1000, 1_000_000} {
		k := &kids{}
		for i := range names {
			k.put(&node{name: fmt.Sprintf("%08d", i)})
		}
		first := k.get("00000000")
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			for b.Loop() {
				k.drop(first.name)
				k.put(first)
			}
		})
	}
}
