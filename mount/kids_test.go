package mount

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKids does what a map would do, and compares.
func TestKids(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	got, want := &kids{}, map[string]*node{}
	for range 10_000 {
		n := &node{name: fmt.Sprint(rnd.IntN(200))}
		if rnd.IntN(2) == 0 {
			got.put(n)
			want[n.name] = n
		} else {
			got.drop(n.name)
			delete(want, n.name)
		}
		if name := fmt.Sprint(rnd.IntN(200)); got.get(name) != want[name] {
			t.Fatalf("get(%q) is %v, want %v", name, got.get(name), want[name])
		}
	}
	names := (&node{kids: got}).names()
	if len(names) != len(want) || !slices.IsSorted(names) {
		t.Errorf("%d names, sorted %t; want %d, sorted", len(names), slices.IsSorted(names), len(want))
	}
	var none *kids
	if none.len() != 0 || none.get("a") != nil || none.all() != nil {
		t.Error("a file has kids")
	}
}
