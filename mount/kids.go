package mount

import (
	"iter"
	"slices"
	"strings"
)

// kidsRun is how many names one run holds at the most. A name that comes or
// goes moves no more than those of its run, and a slot for every run.
const kidsRun = 512

// kids are what a directory holds, in the order of names: sorted runs, all of
// them before the next. They take a third of the memory of a map, and a listing
// comes in that order anyway. Those of a file are nil, and empty.
type kids struct {
	runs  [][]*node // none is empty
	count int
}

func (k *kids) len() int {
	if k == nil {
		return 0
	}
	return k.count
}

// find returns the run that name is in, or belongs in, and where in it.
func (k *kids) find(name string) (run, at int, ok bool) {
	if len(k.runs) == 0 {
		return 0, 0, false
	}
	run = len(k.runs) - 1
	if k.runs[run][0].name > name {
		first, exact := slices.BinarySearchFunc(k.runs, name, func(r []*node, name string) int { return strings.Compare(r[0].name, name) })
		if run = first; !exact {
			run = max(0, first-1)
		}
	}
	in := k.runs[run]
	if n := len(in); in[n-1].name < name {
		return run, n, false // the next of a listing
	}
	at, ok = slices.BinarySearchFunc(in, name, func(n *node, name string) int { return strings.Compare(n.name, name) })
	return run, at, ok
}

// get returns the node at name, or nil.
func (k *kids) get(name string) *node {
	if k == nil {
		return nil
	}
	if run, at, ok := k.find(name); ok {
		return k.runs[run][at]
	}
	return nil
}

// put puts n at its name.
func (k *kids) put(n *node) {
	run, at, ok := k.find(n.name)
	switch {
	case ok:
		k.runs[run][at] = n
		return
	case len(k.runs) == 0:
		k.runs = [][]*node{{n}}
	case len(k.runs[run]) < kidsRun:
		k.runs[run] = slices.Insert(k.runs[run], at, n)
	case at == kidsRun: // a listing comes in order: what it has filled stays full
		k.runs = slices.Insert(k.runs, run+1, []*node{n})
	default:
		k.split(run)
		k.put(n)
		return
	}
	k.count++
}

// split makes two runs of one.
func (k *kids) split(run int) {
	half := k.runs[run][kidsRun/2:]
	k.runs = slices.Insert(k.runs, run+1, slices.Clone(half))
	clear(half)
	k.runs[run] = k.runs[run][:kidsRun/2]
}

// drop leaves nothing at name.
func (k *kids) drop(name string) {
	run, at, ok := k.find(name)
	if !ok {
		return
	}
	k.count--
	k.runs[run] = slices.Delete(k.runs[run], at, at+1)
	if len(k.runs[run]) == 0 {
		k.runs = slices.Delete(k.runs, run, run+1)
	}
}

// all iterates over what is there, which is not to be changed meanwhile.
func (k *kids) all() iter.Seq[*node] {
	return func(yield func(*node) bool) {
		if k == nil {
			return
		}
		for _, run := range k.runs {
			for _, n := range run {
				if !yield(n) {
					return
				}
			}
		}
	}
}
