package bus

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/skyagent/skyagent/manifest"
)

// Limits of an event. A thousand workers times 64 KiB is what a server passes
// on without slow consumers; see docs/design.md, section 7.
const (
	MaxEvent  = 64 << 10 // bytes of its encoding
	MaxInline = 16 << 10 // bytes of one file that travel inside it
)

// Encode returns e as JSON of at most MaxEvent bytes, trimmed by Trim.
func Encode(e manifest.Event) ([]byte, error) {
	b, err := json.Marshal(Trim(e))
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	if len(b) > MaxEvent {
		return nil, fmt.Errorf("encode event: %d bytes without any change", len(b))
	}
	return b, nil
}

// Trim returns e with as much of its changes as fits MaxEvent: the content of
// the largest files goes first, then, when the bare changes are still too many,
// all of them. e itself is not touched.
func Trim(e manifest.Event) manifest.Event {
	data := make([]int, 0, len(e.Changes)) // indexes of changes with content, the largest first
	atLeast := 0
	for i, c := range e.Changes {
		atLeast += len(c.Path) + minChange
		if c.Data != nil && len(c.Data) <= MaxInline {
			data = append(data, i)
		}
	}
	if atLeast > MaxEvent {
		e.Changes = nil // without encoding a hundred thousand changes first
		return e
	}
	slices.SortStableFunc(data, func(a, b int) int {
		return cmp.Compare(len(e.Changes[b].Data), len(e.Changes[a].Data))
	})
	return fill(e, data)
}

// minChange is less than the JSON of any change takes beside its path.
const minChange = len(`{"op":"put","path":"","mode":0},`) - 3

// fill returns e bare, or with the content of as many of the files in data as
// fit, leaving out from the first.
func fill(e manifest.Event, data []int) manifest.Event {
	all := e.Changes
	e.Changes = slices.Clone(all)
	for i := range e.Changes {
		e.Changes[i].Data = nil
	}
	bare, err := json.Marshal(e)
	if err != nil || len(bare) > MaxEvent {
		e.Changes = nil
		return e
	}
	size := len(bare)
	for _, i := range data {
		size += inlineSize(all[i].Data)
	}
	for _, i := range data {
		if size > MaxEvent {
			size -= inlineSize(all[i].Data)
			continue
		}
		e.Changes[i].Data = all[i].Data
	}
	return e
}

// inlineSize returns how much longer b makes a change's JSON. Empty content
// takes no room, and its reader needs none.
func inlineSize(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return len(`,"data":""`) + base64.StdEncoding.EncodedLen(len(b))
}

// Decode reads what Encode wrote, and refuses what no publisher of ours would
// send. It does not compare inline bytes with their hash: whoever writes them
// to a disk does.
func Decode(b []byte) (manifest.Event, error) {
	if len(b) > MaxEvent {
		return manifest.Event{}, fmt.Errorf("decode event: %d bytes are more than %d", len(b), MaxEvent)
	}
	var e manifest.Event
	if err := json.Unmarshal(b, &e); err != nil {
		return manifest.Event{}, fmt.Errorf("decode event: %w", err)
	}
	if err := check(e); err != nil {
		return manifest.Event{}, fmt.Errorf("decode event: %w", err)
	}
	return e, nil
}

func check(e manifest.Event) error {
	switch {
	case e.Source == "" || len(e.Source) > 64:
		return fmt.Errorf("source %q", e.Source)
	case e.Epoch == "" || len(e.Epoch) > 64:
		return fmt.Errorf("epoch %q", e.Epoch)
	case e.Generation == 0 || e.Prev >= e.Generation:
		return fmt.Errorf("generation %d after %d", e.Generation, e.Prev)
	case e.Count < 0 || len(e.Changes) != 0 && len(e.Changes) != e.Count:
		return fmt.Errorf("%d of %d changes", len(e.Changes), e.Count)
	}
	for _, c := range e.Changes {
		if err := checkChange(c); err != nil {
			return err
		}
	}
	return nil
}

func checkChange(c manifest.Change) error {
	if _, err := manifest.ParsePath(string(c.Path)); err != nil {
		return err
	}
	if c.Op != manifest.Put && c.Op != manifest.Delete {
		return fmt.Errorf("%s: %v", c.Path, c.Op)
	}
	if c.Size < 0 || len(c.Data) > MaxInline || len(c.Data) != 0 && int64(len(c.Data)) != c.Size {
		return errors.New(string(c.Path) + ": inline content of a wrong size")
	}
	return nil
}
