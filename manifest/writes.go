package manifest

import "time"

// A Write is one object that a mount wrote or removed, or a directory that it
// made. It says what the bucket holds since, so it may be believed as long as
// the bucket's revision is Rev.
type Write struct {
	Change
	// Prev is the revision that was replaced or removed, "" when there was none.
	Prev string `json:"prev,omitempty"`
}

// Writes are what one mount made durable, in order. They are announced at
// once, and noted in the bucket a little later for those who were not there
// (see Notes). Both are hints: the objects themselves are the truth.
type Writes struct {
	Storage string    `json:"storage"`        // the storage's token on the bus; "" in a note
	Writer  string    `json:"writer"`         // id of the agent's key
	Seal    string    `json:"seal,omitempty"` // see Voucher; "" in a note
	Session string    `json:"session"`        // of one life of one mount: 16 digits of its start, 8 random
	Seq     uint64    `json:"seq"`            // from 1 within the session, without gaps
	Time    time.Time `json:"time"`           // by the writer's clock
	Changes []Write   `json:"changes"`
}
