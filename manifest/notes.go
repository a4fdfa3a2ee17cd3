package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	notesPrefix = Reserved + "/writes/"

	// noteSkew is how far the clocks of writers may be apart, and how long a
	// note may be on its way to the bucket, both together.
	noteSkew = time.Minute
	// noteDeadline bounds one attempt to write a note, well below noteSkew.
	noteDeadline = 20 * time.Second
	// noteAge is the age from which notes are merged.
	noteAge = 10 * time.Minute
	// noteMerge is how many are worth it: merging rewrites what was merged
	// before.
	noteMerge = 16
	// noteGone is how long a deletion is remembered.
	noteGone = 7 * 24 * time.Hour
	// noteLooks is how often Since lists again when notes are merged under its
	// eyes.
	noteLooks = 4
)

// Notes are what mounts have written, kept in the bucket for those who were not
// there to hear it, and for what a listing does not show: hashes, modes, times,
// empty directories.
//
// A note is a fact about one revision of an object ("this revision has this
// hash") and is believed only while the bucket has that revision. So notes may
// come late, twice or in any order, and a lost one costs knowledge, not truth.
// Every note has a key of its own, .skyagent/writes/<20 digits of Unix
// nanoseconds>-<writer>-<8 of session>, written if absent; nobody changes one.
type Notes struct{ bucket Bucket }

// NewNotes returns the notes in bucket.
func NewNotes(bucket Bucket) *Notes { return &Notes{bucket} }

// A NotesPos says which notes a reader has seen. The zero NotesPos has seen
// none. It is small: it names the notes of one minute.
type NotesPos struct {
	Newest int64    `json:"newest_ns"`      // time of the newest key, nanoseconds since 1970
	Near   []string `json:"near,omitempty"` // keys from a minute before that, without the prefix
}

func noteKey(at int64, writer, session string) string {
	return fmt.Sprintf("%s%020d-%s-%s", notesPrefix, at, writer, session[max(0, len(session)-8):])
}

// noteTime reads the time in a note's name.
func noteTime(name string) (int64, bool) {
	digits, _, ok := strings.Cut(name, "-")
	at, err := strconv.ParseInt(digits, 10, 64)
	return at, ok && err == nil && len(digits) == 20
}

// Add writes a note of w. Its time is now when it has none. On an error the
// note may stand there all the same.
func (n *Notes) Add(ctx context.Context, w Writes) error {
	now := time.Now()
	w.Storage = ""
	if w.Time.IsZero() {
		w.Time = now
	}
	ctx, cancel := context.WithTimeout(ctx, noteDeadline)
	defer cancel()
	body := EncodeNote([]Writes{w})
	for at := now.UnixNano(); ; at++ {
		key := noteKey(at, w.Writer, w.Session)
		_, err := n.bucket.Create(ctx, key, body)
		if errors.Is(err, fs.ErrExist) {
			// An attempt whose answer was lost, or another note of the same
			// nanosecond.
			there, _, err := n.bucket.Read(ctx, key)
			if err == nil && Sum(there) != Sum(body) {
				continue
			}
			if err == nil {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("write note: %w", err)
		}
		return nil
	}
}

// Since returns what was noted after pos, in the order of the notes' keys, and
// the position that follows. It costs one listing, and one read a note. Notes
// that are damaged are passed over: the error is ErrCorrupt then, and all else
// is returned with it. On any other error the position stays.
func (n *Notes) Since(ctx context.Context, pos NotesPos) ([]Writes, NotesPos, error) {
	var damaged error
	for look := 1; ; look++ {
		names, err := n.list(ctx, pos.Newest-int64(noteSkew))
		if err != nil {
			return nil, pos, err
		}
		list, bad, err := n.read(ctx, unseen(names, pos.Near))
		if errors.Is(err, fs.ErrNotExist) && look < noteLooks {
			continue // merged meanwhile; the merged note stands in its place
		}
		if err != nil {
			return nil, pos, err
		}
		for name, err := range bad {
			damaged = errors.Join(damaged, fmt.Errorf("note %s: %w", name, err))
		}
		return list, pos.after(names, time.Now()), damaged
	}
}

// after returns the position of a reader at pos who has seen names too. A clock
// that is far ahead does not make it pass over everybody else's notes.
func (pos NotesPos) after(names []string, now time.Time) NotesPos {
	next := NotesPos{Newest: pos.Newest}
	for _, name := range names {
		if at, _ := noteTime(name); at <= now.Add(noteSkew).UnixNano() {
			next.Newest = max(next.Newest, at)
		}
	}
	for _, name := range names {
		if at, _ := noteTime(name); at > next.Newest-int64(noteSkew) {
			next.Near = append(next.Near, name)
		}
	}
	return next
}

// list returns the names of the notes from time at on.
func (n *Notes) list(ctx context.Context, at int64) ([]string, error) {
	after := ""
	if at > 0 {
		after = fmt.Sprintf("%s%020d", notesPrefix, at)
	}
	var names []string
	for o, err := range n.bucket.List(ctx, notesPrefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list notes: %w", err)
		}
		name := strings.TrimPrefix(o.Key, notesPrefix)
		if _, ok := noteTime(name); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

func unseen(names, seen []string) []string {
	known := make(map[string]bool, len(seen))
	for _, name := range seen {
		known[name] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return known[name] })
}

// read returns the content of notes, and by name those that are damaged.
func (n *Notes) read(ctx context.Context, names []string) (list []Writes, bad map[string]error, err error) {
	notes := make([][]Writes, len(names))
	errs := make([]error, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, name := range names {
		group.Go(func() error {
			b, _, err := n.bucket.Read(ctx, notesPrefix+name)
			if err != nil {
				return fmt.Errorf("read note %s: %w", name, err)
			}
			if notes[i], errs[i] = DecodeNote(b); errors.Is(errs[i], ErrCorrupt) {
				notes[i] = nil
				return nil
			}
			return errs[i]
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	bad = make(map[string]error)
	for i, name := range names {
		if errs[i] != nil {
			bad[name] = errs[i]
		}
		list = append(list, notes[i]...)
	}
	return list, bad, nil
}

// Compact merges notes that are older than ten minutes into one, once there are
// enough of them, which keeps the last fact about every path, and deletions for
// 7 days. The merged note is written before the others go and has the time of
// the newest of them, so that whoever has not read that one reads it. Compact
// may be killed, and may run in several places at a time: at worst facts stand
// there twice.
func (n *Notes) Compact(ctx context.Context, now time.Time) error {
	names, err := n.list(ctx, 0)
	if err != nil {
		return err
	}
	old := now.Add(-noteAge).UnixNano()
	names = slices.DeleteFunc(names, func(name string) bool {
		at, _ := noteTime(name)
		return at > old
	})
	if len(names) < noteMerge {
		return nil
	}
	list, bad, err := n.read(ctx, names)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else is at it
	}
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return bad[name] != nil }) // for people to look at
	return n.replace(ctx, names, merge(list, now.Add(-noteGone)))
}

// replace writes list in place of the notes names, which are in order.
func (n *Notes) replace(ctx context.Context, names []string, list []Writes) error {
	if len(names) < 2 {
		return nil
	}
	if len(list) > 0 {
		body := EncodeNote(list)
		at, _ := noteTime(names[len(names)-1])
		// Named by its content: whoever merges the same makes the same.
		merged := fmt.Sprintf("%020d-merged-%s", at, Sum(body).String()[:16])
		if _, err := n.bucket.Create(ctx, notesPrefix+merged, body); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write merged note: %w", err)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == merged })
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = notesPrefix + name
	}
	if err := n.bucket.Remove(ctx, keys...); err != nil {
		return fmt.Errorf("remove merged notes: %w", err)
	}
	return nil
}

// merge returns list, in the order of time, with the last write of every path
// alone, and without deletions from before gone.
func merge(list []Writes, gone time.Time) []Writes {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Writes) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Session, b.Session), cmp.Compare(a.Seq, b.Seq))
	})
	type place struct{ note, change int }
	last := make(map[Path]place)
	for i, w := range list {
		for j, c := range w.Changes {
			at, ok := last[c.Path]
			if ok && c.Rev != "" && list[at.note].Changes[at.change].Prev == c.Rev {
				continue // clocks differ: that one replaced this one
			}
			last[c.Path] = place{i, j}
		}
	}
	var out []Writes
	for i, w := range list {
		kept := w
		kept.Changes = nil
		for j, c := range w.Changes {
			if last[c.Path] == (place{i, j}) && (c.Op != Delete || w.Time.After(gone)) {
				kept.Changes = append(kept.Changes, c)
			}
		}
		if len(kept.Changes) > 0 {
			out = append(out, kept)
		}
	}
	return out
}
