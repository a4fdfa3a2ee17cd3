package registry

import (
	"time"

	"github.com/skyagent/skyagent/storage"
)

// A State is what a storage is in the middle of.
type State string

const (
	Init         State = "INIT"          // recorded, before its bucket is made
	Uploading    State = "UPLOADING"     // the first upload is under way
	Ready        State = "READY"         // in step when it was last looked after
	Syncing      State = "SYNCING"       // a watch keeps it in step
	Degraded     State = "DEGRADED"      // kept in step, but something fails
	Guarded      State = "GUARDED"       // a deletion waits for a word
	UploadFailed State = "UPLOAD_FAILED" // the first upload did not finish
	Deleting     State = "DELETING"      // on its way out, for good
)

// States are all there are.
var States = []State{Init, Uploading, Ready, Syncing, Degraded, Guarded, UploadFailed, Deleting}

// A Record is one storage.
type Record struct {
	Name       string
	Store      storage.Store
	URL        string    // of its bucket and prefix
	Created    time.Time // to the microsecond, as all times here
	Used       time.Time // when Command was given
	Command    string    // the last one that used it
	State      State
	Persistent bool // false: the bucket goes with its last watch
}
