package mount

import (
	"slices"
	"strings"
)

// kids are what a directory holds, in the order of names. A slice takes a third
// of the memory of a map, and a listing comes in that order anyway. Those of a
// file are nil, and empty.
type kids struct{ list []*node }

func (k *kids) len() int {
	if k == nil {
		return 0
	}
	return len(k.list)
}

// find returns where name is, or belongs.
func (k *kids) find(name string) (at int, ok bool) {
	if n := len(k.list); n == 0 || k.list[n-1].name < name {
		return n, false // the next of a listing
	}
	return slices.BinarySearchFunc(k.list, name, func(n *node, name string) int { return strings.Compare(n.name, name) })
}

// get returns the node at name, or nil.
func (k *kids) get(name string) *node {
	if k == nil {
		return nil
	}
	if at, ok := k.find(name); ok {
		return k.list[at]
	}
	return nil
}

// put puts n at its name.
func (k *kids) put(n *node) {
	at, ok := k.find(n.name)
	if ok {
		k.list[at] = n
		return
	}
	k.list = slices.Insert(k.list, at, n)
}

// drop leaves nothing at name.
func (k *kids) drop(name string) {
	if at, ok := k.find(name); ok {
		k.list = slices.Delete(k.list, at, at+1)
	}
}

// all returns what is there now; it is not to be changed.
func (k *kids) all() []*node {
	if k == nil {
		return nil
	}
	return k.list
}
