package bus

import (
	"slices"

	"github.com/skyagent/skyagent/manifest"
)

// maxOutbox bounds how many paths wait for the bus. What does not fit is found
// in the bucket by readers, whom a skipped number tells to look.
const maxOutbox = 4096

// An outbox holds what could not be announced, the newest of every path, in the
// order in which the paths first came. It carries no content.
type outbox struct {
	order []manifest.Path
	by    map[manifest.Path]manifest.Write
	lost  bool // the oldest were dropped
}

// add puts changes behind what is there.
func (o *outbox) add(changes []manifest.Write) {
	if o.by == nil {
		o.by = map[manifest.Path]manifest.Write{}
	}
	for _, w := range changes {
		old, ok := o.by[w.Path]
		if ok {
			w.Prev = old.Prev // the two are one step from there
		} else {
			o.order = append(o.order, w.Path)
		}
		w.Data = nil
		o.by[w.Path] = w
	}
	for len(o.order) > maxOutbox {
		delete(o.by, o.order[0])
		o.order, o.lost = o.order[1:], true
	}
}

func (o *outbox) empty() bool { return len(o.order) == 0 && !o.lost }

// take empties the outbox and returns what was in it, with changes behind it,
// each path once.
func (o *outbox) take(changes []manifest.Write) (all []manifest.Write, lost bool) {
	newer := make(map[manifest.Path]bool, len(changes))
	for _, w := range changes {
		newer[w.Path] = true
	}
	for _, p := range o.order {
		if !newer[p] {
			all = append(all, o.by[p])
		}
	}
	rest := slices.Clone(changes)
	for i := range rest {
		if old, ok := o.by[rest[i].Path]; ok {
			rest[i].Prev = old.Prev
			delete(o.by, rest[i].Path)
		}
	}
	lost = o.lost
	*o = outbox{}
	return append(all, rest...), lost
}
