package posix_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/posix"
)

// history reads "w1 0-5" (writes 1 from 0 to 5), "r1 6-7" and "u1 0-5" (a write
// whose end nobody knows).
func history(t *testing.T, lines string) []posix.Op {
	t.Helper()
	var ops []posix.Op
	for line := range strings.SplitSeq(lines, ",") {
		op := posix.Op{Worker: len(ops)}
		var kind rune
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "%c%d %d-%d", &kind, &op.Value, &op.Begin, &op.End); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		op.Write, op.Unknown, op.Kind = kind != 'r', kind == 'u', string(kind)
		ops = append(ops, op)
	}
	return ops
}

func TestLinearizable(t *testing.T) {
	for _, tc := range []struct {
		name, history string
		want          bool
	}{
		{"nothing yet", "r0 0-1", true},
		{"a value of nobody", "r1 0-1", false},
		{"read after write", "w1 0-1, r1 2-3", true},
		{"stale read", "w1 0-1, r0 2-3", false},
		{"stale by one", "w1 0-1, w2 2-3, r1 4-5", false},
		{"read before it is written", "r1 0-1, w1 2-3", false},
		{"either during a write", "w1 0-1, w2 2-9, r1 3-4, r2 5-6", true},
		{"back again", "w1 0-1, w2 2-9, r2 3-4, r1 5-6", false},
		{"back again, two readers at once", "w1 0-1, w2 2-9, r2 3-6, r1 5-7", true},
		{"two writes at once, one order", "w1 0-9, w2 0-9, r1 10-11, r1 12-13", true},
		{"two writes at once, two orders", "w1 0-9, w2 0-9, r1 10-11, r2 12-13", false},
		{"two writes at once, seen both", "w1 0-9, w2 0-9, r1 1-2, r2 3-4, r2 10-11", true},
		{"two writes at once, overtaken", "w1 0-9, w2 0-9, r1 1-2, r2 3-4, r1 10-11", false},
		{"unlink", "w1 0-1, w0 2-3, r0 4-5", true},
		{"there after unlink", "w1 0-1, w0 2-3, r1 4-5", false},
		{"unknown, not", "w1 0-1, u2 2-3, r1 4-5", true},
		{"unknown, happened", "w1 0-1, u2 2-3, r2 4-5", true},
		{"unknown, late", "w1 0-1, u2 2-3, r1 4-5, r2 6-7", true},
		{"unknown, and back", "w1 0-1, u2 2-3, r2 4-5, r1 6-7", false},
		{"unknown, before it began", "w1 0-1, r2 2-3, u2 4-5", false},
		{"unknown unlink twice", "w1 0-1, u0 2-3, r0 4-5, w2 6-7, r0 8-9", false},
		{"touching times", "w1 0-1, r0 1-2", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := posix.Linearizable(history(t, tc.history)); (err == nil) != tc.want {
				t.Errorf("%s: got %v", tc.history, err)
			}
		})
	}
}

// A failure names its register and the operation.
func TestLinearizableSays(t *testing.T) {
	ops := append(history(t, "w1 0-1, r1 2-3"), posix.Op{Worker: 7, Register: 3, Kind: "read", Value: 0xab, Begin: 5, End: 6})
	err := posix.Linearizable(ops)
	if err == nil || !strings.Contains(err.Error(), "register 3") || !strings.Contains(err.Error(), "worker 7: read 0xab") || strings.Contains(err.Error(), "register 0") {
		t.Errorf("got %v", err)
	}
}

func TestLinearizableGivesUp(t *testing.T) {
	var ops []posix.Op
	for i := range 70 {
		ops = append(ops, posix.Op{Write: true, Value: uint32(i + 1), Begin: int64(i), End: 1000})
	}
	if err := posix.Linearizable(ops); !errors.Is(err, posix.ErrUndecided) {
		t.Errorf("got %v", err)
	}
}

// simulated returns a history of a real register: each operation takes effect
// at one moment between its begin and its end.
func simulated(seed uint64, n, registers, workers int) []posix.Op {
	rnd := rand.New(rand.NewPCG(seed, 0))
	values, free := make([]uint32, registers), make([]int64, workers)
	var ops []posix.Op
	for i := range n {
		w := i % workers
		at := max(int64(i*100), free[w]) + rnd.Int64N(50)
		op := posix.Op{Worker: w, Register: rnd.IntN(registers), Kind: "read", Begin: max(free[w], at-rnd.Int64N(300)), End: at + rnd.Int64N(300)}
		free[w] = op.End + 1
		ops = append(ops, op)
	}
	effects(rnd, ops, values)
	return ops
}

// effects decides what the operations do, in the order of a moment in each.
func effects(rnd *rand.Rand, ops []posix.Op, values []uint32) {
	type effect struct {
		at int64
		op int
	}
	var order []effect
	for i, op := range ops {
		order = append(order, effect{op.Begin + rnd.Int64N(op.End-op.Begin+1), i})
	}
	slices.SortFunc(order, func(a, b effect) int { return cmp.Compare(a.at, b.at) })
	for n, e := range order {
		op := &ops[e.op]
		if rnd.IntN(2) == 0 {
			op.Write, op.Kind, op.Value = true, "write", uint32(n+1)
			values[op.Register] = op.Value
		}
		op.Value = values[op.Register]
	}
}

func TestLinearizableAgrees(t *testing.T) {
	for seed := range uint64(200) {
		ops := simulated(seed, 300, 2, 6)
		if err := posix.Linearizable(ops); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if later := stale(ops); later != nil && posix.Linearizable(later) == nil {
			t.Fatalf("seed %d: a stale read passes", seed)
		}
	}
}

// stale makes the last read find what a write that ended long before another
// one wrote.
func stale(ops []posix.Op) []posix.Op {
	changed := append([]posix.Op(nil), ops...)
	for i := len(ops) - 1; i >= 0; i-- {
		if ops[i].Write {
			continue
		}
		for _, first := range ops {
			for _, second := range ops {
				if first.Write && second.Write && first.Register == ops[i].Register && second.Register == first.Register &&
					first.End < second.Begin && second.End < ops[i].Begin {
					changed[i].Value = first.Value
					return changed
				}
			}
		}
	}
	return nil
}

// BenchmarkLinearizable checks 100,000 operations of 8 workers on 8 registers.
func BenchmarkLinearizable(b *testing.B) {
	ops := simulated(1, 100_000, 8, 8)
	for b.Loop() {
		if err := posix.Linearizable(ops); err != nil {
			b.Fatal(err)
		}
	}
}
