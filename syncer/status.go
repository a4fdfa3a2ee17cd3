package syncer

import (
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A State is how a source or a replica is doing.
type State string

// The states, from a good day to a bad one.
const (
	StateStarting State = "STARTING" // not all is in place yet
	StateReady    State = "READY"    // in step
	StateSyncing  State = "SYNCING"  // changes are under way
	StatePartial  State = "PARTIAL"  // in step but for files that are named
	StateDegraded State = "DEGRADED" // the store or the bus is away; retrying
	StateGuarded  State = "GUARDED"  // a mass deletion waits for --allow-mass-delete
)

// A SourceStatus is a source at one moment. The totals count since the start.
type SourceStatus struct {
	State   State
	Reason  string // for StateGuarded and StateDegraded
	Pos     manifest.Position
	Files   int
	Bytes   int64
	Dirty   int                // paths under way or waiting
	Skipped []manifest.Skipped // in the order of their names
	Failed  map[manifest.Path]error

	UploadedFiles, UploadedBytes int64 // content sent
	CopiedFiles, CopiedBytes     int64 // copied inside the store instead
	ReusedBytes                  int64 // parts of uploaded files that were copied inside the store
	Deleted                      int64
	Commits, Changes             int64
	Conflicts                    int64
	Unstable                     int64 // reads thrown away because the file changed
	Scans                        int64
	Scanned                      int64 // entries of the tree that those looked at
	Ignored                      int   // entries that rules left out of the last one; a directory is one
	HashedBytes                  int64 // of the tree, read
	CheckpointBytes              int64 // of the checkpoint written last; 0 before the first
}

// A Committed tells of one generation that was written.
type Committed struct {
	Pos           manifest.Position
	Changes       []manifest.Change
	UploadedBytes int64
	Took          time.Duration // since the first of its changes was looked at
}

// A ReplicaStatus is a replica at one moment. The totals count since the start.
type ReplicaStatus struct {
	State  State
	Reason string
	Pos    manifest.Position
	Files  int
	Bytes  int64
	Damage error // of the log beyond Pos; nil when there is none
	Failed map[manifest.Path]error

	Generations                uint64 // applied
	FetchedFiles, FetchedBytes int64
	InlineFiles                int64 // placed from an event, without a request
	ReusedBytes                int64 // taken from local files instead
	Deleted, Conflicts         int64
	Polls                      int64 // listings of the log
}

// An Applied tells of one step of a replica.
type Applied struct {
	Pos     manifest.Position
	Changes []manifest.Path // in place now
	Failed  int
	Took    time.Duration
	// Lag is since the commit, by the writer's clock; 0 when it is not known, and
	// before the replica was in step for the first time.
	Lag time.Duration
	// Saved has, for every file placed that was saved shortly before its commit,
	// the time since then. Files whose modification time was set, as copying
	// tools do, have no moment of a save; nor has what was there before the
	// replica was in step for the first time.
	Saved []time.Duration
}

// A Progress counts the work of a pass. Files and Bytes grow while the work is
// still being found.
type Progress struct {
	Files, Bytes         int64
	DoneFiles, DoneBytes int64
}
