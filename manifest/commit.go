package manifest

import (
	"fmt"
	"time"
)

// An Op says what a Change does.
type Op uint8

// The operations of a Change.
const (
	Put    Op = 1 // the path is now this file
	Delete Op = 2 // the path is gone; only Path of the file counts
)

// String returns "put" or "delete".
func (o Op) String() string {
	switch o {
	case Put:
		return "put"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// MarshalText writes the operation's name.
func (o Op) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the operation's name.
func (o *Op) UnmarshalText(b []byte) error {
	switch string(b) {
	case "put":
		*o = Put
	case "delete":
		*o = Delete
	default:
		return fmt.Errorf("unknown operation %q", b)
	}
	return nil
}

// A Change is one step from a manifest to the next.
type Change struct {
	Op Op `json:"op"`
	File

	// Data is the file's whole content where an event carries it inline; it is
	// never part of a commit. Nil means "fetch it"; an empty file needs neither.
	Data []byte `json:"data,omitempty"`
}

// An Epoch is the random id of a log's first commit. Two logs with the same
// epoch are the same log.
type Epoch string

// A Commit is the ordered batch of changes that makes generation g of a
// source from generation g-1.
type Commit struct {
	Epoch      Epoch     `json:"epoch"`
	Generation uint64    `json:"generation"` // from 1, without gaps
	Prev       Hash      `json:"prev"`       // Sum of the previous commit's encoding; zero for the first
	Writer     string    `json:"writer"`     // id of the agent that wrote it
	WriteID    string    `json:"write_id"`   // random for every attempt, to know one's own write again
	Time       time.Time `json:"time"`       // by the writer's clock, for people
	Changes    []Change  `json:"changes"`
}

// An Event says on the bus that a commit was written. It is a hint: whoever
// misses it finds the same in the log.
type Event struct {
	Storage    string    `json:"storage"` // the storage's token on the bus
	Source     string    `json:"source"`
	Epoch      Epoch     `json:"epoch"`
	Generation uint64    `json:"generation"`
	Prev       uint64    `json:"prev"`   // the generation that Changes apply to
	Commit     Hash      `json:"commit"` // Sum of the commit's encoding
	Writer     string    `json:"writer"`
	Seal       string    `json:"seal,omitempty"` // see Voucher
	Time       time.Time `json:"time"`
	Count      int       `json:"count"`             // number of changes in the commit
	Changes    []Change  `json:"changes,omitempty"` // all of them, or none when they do not fit
}

// Complete reports whether e carries every change of its commit.
func (e Event) Complete() bool { return len(e.Changes) == e.Count }

// A Batch is a set of paths of a source that changed and have settled. It
// says where to look, never what to believe.
type Batch struct {
	// Paths have settled, in no particular order and without duplicates. What
	// is there now (a file, a directory, nothing) is for the reader to find.
	Paths []Path

	// Rescan, when not empty, says why the whole tree must be looked at:
	// "start", "overflow", "limit", "error", "interval", "name", "root".
	Rescan string
}
