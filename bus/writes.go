package bus

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// sessionLen is the length of a session: 16 hexadecimal digits of the Unix
// time in nanoseconds, so that sessions of one writer can be told old from new,
// and 8 random ones.
const sessionLen = 24

// NewSession returns the name of a mount's life that begins now.
func NewSession() string {
	return fmt.Sprintf("%016x%08x", time.Now().UnixNano(), rand.Uint32())
}

// EncodeWrites returns w as JSON of at most MaxEvent bytes. Content that does
// not fit is left out, the largest first. Changes that do not fit without any
// content are an error: Split makes messages of them that do.
func EncodeWrites(w manifest.Writes) ([]byte, error) {
	b, err := json.Marshal(trimWrites(w))
	if err != nil {
		return nil, fmt.Errorf("encode writes: %w", err)
	}
	if len(b) > MaxEvent {
		return nil, fmt.Errorf("encode writes: %d bytes without any content", len(b))
	}
	return b, nil
}

// trimWrites returns w with as much content as fits, as Trim does for events.
func trimWrites(w manifest.Writes) manifest.Writes {
	var data []int // indexes of changes with content, the largest first
	all := w.Changes
	w.Changes = slices.Clone(all)
	for i := range all {
		if w.Changes[i].Data = nil; all[i].Data != nil && len(all[i].Data) <= MaxInline {
			data = append(data, i)
		}
	}
	slices.SortStableFunc(data, func(a, b int) int { return cmp.Compare(len(all[b].Data), len(all[a].Data)) })
	size := jsonSize(w)
	for _, i := range data {
		size += inlineSize(all[i].Data)
	}
	for _, i := range data {
		if size > MaxEvent {
			size -= inlineSize(all[i].Data)
			continue
		}
		w.Changes[i].Data = all[i].Data
	}
	return w
}

// jsonSize returns how long v is as JSON.
func jsonSize(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return MaxEvent + 1
	}
	return len(b)
}

// splitWrites cuts changes into runs that each fit a message, the content of
// files apart.
func splitWrites(changes []manifest.Write) (runs [][]manifest.Write) {
	const head = 512 // more than all that stands beside the changes
	size, from := head, 0
	for i := range changes {
		bare := changes[i]
		bare.Data = nil
		n := jsonSize(bare) + 1
		if head+n > MaxEvent { // the part hashes of a huge file
			changes[i].Parts, changes[i].PartSize, bare.Parts, bare.PartSize = nil, 0, nil, 0
			n = jsonSize(bare) + 1
		}
		if size+n > MaxEvent {
			runs = append(runs, changes[from:i])
			size, from = head, i
		}
		size += n
	}
	if from < len(changes) {
		runs = append(runs, changes[from:])
	}
	return runs
}

// DecodeWrites reads what EncodeWrites wrote, and refuses what no mount of ours
// would send. It does not compare inline bytes with their hash.
func DecodeWrites(b []byte) (manifest.Writes, error) {
	if len(b) > MaxEvent {
		return manifest.Writes{}, fmt.Errorf("decode writes: %d bytes are more than %d", len(b), MaxEvent)
	}
	var w manifest.Writes
	if err := json.Unmarshal(b, &w); err != nil {
		return manifest.Writes{}, fmt.Errorf("decode writes: %w", err)
	}
	if err := checkWrites(w); err != nil {
		return manifest.Writes{}, fmt.Errorf("decode writes: %w", err)
	}
	return w, nil
}

func checkWrites(w manifest.Writes) error {
	if !hexadecimal(w.Session, sessionLen) {
		return fmt.Errorf("session %q", w.Session)
	}
	if w.Seq == 0 && len(w.Changes) > 0 {
		return errors.New("changes without a number")
	}
	for _, c := range w.Changes {
		if err := checkChange(c.Change); err != nil {
			return err
		}
		if len(c.Prev) > maxRev || len(c.Rev) > maxRev {
			return fmt.Errorf("%s: revision of %d bytes", c.Path, max(len(c.Prev), len(c.Rev)))
		}
	}
	return nil
}

// maxRev is longer than any store's revision, in bytes.
const maxRev = 1 << 10

// hexadecimal reports whether s is n lower-case hexadecimal digits.
func hexadecimal(s string, n int) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == n
}
