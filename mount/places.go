package mount

import (
	"cmp"
	"slices"
)

// A place is a name in a listing. The offset, from which a reader goes on after
// it, is the file's ino: it stays what it is when other names come and go.
type place struct {
	offset uint64
	name   string
}

// Offsets of what is in every directory; those of files are larger.
const (
	selfOffset   = 1
	parentOffset = 2
)

// places returns what is in dir, by offset.
func (n *node) places() []place {
	list := make([]place, 0, 2+n.kids.len())
	list = append(list, place{selfOffset, "."}, place{parentOffset, ".."})
	for kid := range n.kids.all() {
		list = append(list, place{kid.ino, kid.name})
	}
	slices.SortFunc(list, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	return list
}

// after returns those of places that follow offset.
func after(places []place, offset uint64) []place {
	at, _ := slices.BinarySearchFunc(places, offset+1, func(p place, offset uint64) int { return cmp.Compare(p.offset, offset) })
	return places[at:]
}
