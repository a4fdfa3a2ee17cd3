package posix

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// An Op is what one worker did to one register, between two times of a clock
// that all workers share.
type Op struct {
	Worker, Register int
	Kind             string // in words: read, write, rename, unlink
	Write            bool   // it sets Value; else it found Value
	// Value is unique to its write. 0 is the register's first value and that of
	// an unlink: not there.
	Value      uint32
	Begin, End int64
	// Unknown is a write that failed in a way that leaves open whether it
	// happened, or happens later.
	Unknown bool
	// Refused is one that did not happen, or a read that found nothing out. It is
	// told, and not checked.
	Refused bool
}

func (o Op) String() string {
	outcome := ""
	switch {
	case o.Unknown:
		outcome = ", unknown whether"
	case o.Refused:
		outcome = ", refused"
	}
	return fmt.Sprintf("%d..%d worker %d: %s %#x%s", o.Begin, o.End, o.Worker, o.Kind, o.Value, outcome)
}

// ErrUndecided is a history with too many writes at once to try all orders.
var ErrUndecided = errors.New("too many orders to try")

// Linearizable returns nil when for each register there is an order of its
// operations that respects their times and lets every read find the write
// before it. It returns what cannot be explained otherwise, or ErrUndecided.
//
// It goes through a register's calls and returns in time and keeps all states
// that are possible: the value, and which of the writes under way have
// happened. A read happens as soon as it can, which never rules anything out;
// a write as late as it can, so that few are under way.
func Linearizable(ops []Op) error {
	registers := map[int][]Op{}
	for _, op := range ops {
		registers[op.Register] = append(registers[op.Register], op)
	}
	var wrong []error
	for _, r := range slices.Sorted(maps.Keys(registers)) {
		if err := checkRegister(registers[r]); err != nil {
			wrong = append(wrong, fmt.Errorf("register %d: %w", r, err))
		}
	}
	return errors.Join(wrong...)
}

// mostStates bounds the memory of a check.
const mostStates = 1 << 20

// A state is what a register may be in: its value, and which slots' operations
// happened already.
type state struct {
	value uint32
	done  uint64
}

// A moment is the call of an operation, or its return.
type moment struct {
	time int64
	op   int
	ends bool
}

// A linearizer is the check of one register.
type linearizer struct {
	ops    []Op
	slots  [64]int // the operation under way in each, in use where the bit of busy is set
	busy   uint64
	slotOf []int
	states map[state]bool
	all    []Op // also those that are not checked, for the message
}

func checkRegister(all []Op) error {
	ops := observable(all)
	l := &linearizer{ops: ops, all: all, slotOf: make([]int, len(ops)), states: map[state]bool{{}: true}}
	for _, m := range moments(ops) {
		if !m.ends {
			if err := l.call(m.op); err != nil {
				return err
			}
			continue
		}
		if err := l.finish(m.op); err != nil {
			return err
		}
	}
	return nil
}

// observable drops what did not happen, and unknown writes whose value nobody
// found: if there is an order with one, there is one without it.
func observable(ops []Op) []Op {
	found := map[uint32]bool{}
	for _, op := range ops {
		if !op.Write && !op.Refused {
			found[op.Value] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op Op) bool { return op.Refused || op.Unknown && !found[op.Value] })
}

// moments returns calls and returns in time; at one time calls come first, as
// nobody knows better. An unknown write does not return.
func moments(ops []Op) []moment {
	var all []moment
	for i, op := range ops {
		all = append(all, moment{op.Begin, i, false})
		if !op.Unknown {
			all = append(all, moment{op.End, i, true})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int {
		if c := cmp.Compare(a.time, b.time); c != 0 || a.ends == b.ends {
			return c
		}
		if b.ends {
			return -1
		}
		return 1
	})
	return all
}

// call gives an operation a slot. A read that can happen, happens.
func (l *linearizer) call(op int) error {
	if l.busy == ^uint64(0) {
		return fmt.Errorf("64 operations at once: %w", ErrUndecided)
	}
	slot := bits.TrailingZeros64(^l.busy)
	l.busy |= 1 << slot
	l.slots[slot], l.slotOf[op] = op, slot
	if l.ops[op].Write {
		return nil
	}
	next := make(map[state]bool, len(l.states))
	for s := range l.states {
		next[l.settle(s)] = true
	}
	l.states = next
	return nil
}

// settle lets the reads happen that find the state's value.
func (l *linearizer) settle(s state) state {
	for open := l.busy &^ s.done; open != 0; open &= open - 1 {
		slot := bits.TrailingZeros64(open)
		if op := l.ops[l.slots[slot]]; !op.Write && op.Value == s.value {
			s.done |= 1 << slot
		}
	}
	return s
}

// finish keeps the states in which an operation has happened, or can happen
// now after others that are under way.
func (l *linearizer) finish(op int) error {
	bit := uint64(1) << l.slotOf[op]
	next, seen := map[state]bool{}, map[state]bool{}
	var todo []state
	for s := range l.states {
		todo, seen[s] = append(todo, s), true
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.done&bit != 0 {
			next[state{s.value, s.done &^ bit}] = true
			continue
		}
		for _, after := range l.writes(s) {
			if !seen[after] {
				todo, seen[after] = append(todo, after), true
			}
		}
		if len(seen) > mostStates {
			return ErrUndecided
		}
	}
	if len(next) == 0 {
		return l.explain(op)
	}
	l.busy &^= bit
	l.states = next
	return nil
}

// writes returns the states that one more write leads to.
func (l *linearizer) writes(s state) []state {
	var after []state
	for open := l.busy &^ s.done; open != 0; open &= open - 1 {
		slot := bits.TrailingZeros64(open)
		if op := l.ops[l.slots[slot]]; op.Write {
			after = append(after, l.settle(state{op.Value, s.done | 1<<slot}))
		}
	}
	return after
}

// explain says which operation nothing explains, and what was possible.
func (l *linearizer) explain(op int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "no order of the operations explains\n  %v\nit could have found", l.ops[op])
	values := map[uint32]bool{}
	for s := range l.states {
		if !values[s.value] {
			values[s.value] = true
			fmt.Fprintf(&b, " %#x", s.value)
		}
	}
	fmt.Fprint(&b, "; of this register, as they began")
	for _, o := range l.around(l.ops[op]) {
		fmt.Fprintf(&b, "\n  %v", o)
	}
	return errors.New(b.String())
}

// around returns the operations that began before op ended, the last of them, and
// a few after that.
func (l *linearizer) around(op Op) []Op {
	const before, after = 30, 10
	all := slices.Clone(l.all)
	slices.SortStableFunc(all, func(a, b Op) int { return cmp.Compare(a.Begin, b.Begin) })
	n := 0
	for n < len(all) && all[n].Begin <= op.End {
		n++
	}
	return all[max(0, n-before):min(len(all), n+after)]
}
