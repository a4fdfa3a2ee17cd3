package mount

import (
	"context"
	"log/slog"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// A Bus is where a mount tells others what it wrote, and makes sure that it has
// heard what they wrote. What it hears is given to FS.Hear.
type Bus interface {
	// Announce tells of changes, and returns when whoever asks the bus from now
	// on gets them. While the bus is away it keeps them, and returns an error.
	Announce(ctx context.Context, changes []manifest.Write) error
	// Fence returns when all that had been announced when it was called was
	// given to Hear.
	Fence(ctx context.Context) error
	// Alive reports whether nothing that is announced is missed.
	Alive() bool
	// Changed returns a channel that is closed when Alive may have changed.
	Changed() <-chan struct{}
}

// A Seen hears of one request of the kernel that was answered: "lookup", "open",
// "create", "read", "write", "flush", "fsync", "list", "rename" or "remove", and
// how long that took. It is called by many goroutines.
type Seen func(op string, took time.Duration)

// Options say what is mounted, and where.
type Options struct {
	Dir    string // absolute path of the mount point
	Store  objstore.Store
	Name   string // of the file system, as in df
	Bus    Bus    // nil: there is none
	Locks  Locks  // nil: flocks and POSIX locks hold between the processes of this mount only
	Cache  *blocks.Cache
	State  string // directory of the journal and of what waits for its upload
	Writer string // id of the agent

	Sources func(ctx context.Context) ([]string, error) // those that have a log
	Logs    func(source string) *manifest.Log           // how a source's log is read
	Notes   *manifest.Notes                             // what mounts wrote
	Life    string                                      // random, of this life of the mount: what it announces has it

	ReadOnly   bool
	Xattrs     bool // extended attributes are kept; every write(2) costs a request more then
	Symlinks   bool // may be made, and are shown as such; otherwise they are files that hold their targets
	AllowOther bool
	NonEmpty   bool // what the mount point holds is hidden, instead of an error
	WriteBack  bool // close returns before the upload
	Inotify    bool // watchers on this machine see what others change
	UID, GID   uint32
	Umask      uint32

	Deadline  time.Duration // of what waits for the store; 0 means 30 s
	Reconcile time.Duration // between listings of the bucket, for strangers' changes; 0 means 5 min

	Seen Seen         // nil: nobody looks
	Log  *slog.Logger // nil discards
}

// Times of a mount.
const (
	trusted  = time.Hour   // how long the kernel may believe us while the bus lives
	doubtful = time.Second // and while it does not

	noteAfter = 300 * time.Millisecond // what was written is noted in the bucket
	noteSoon  = 2 * noteAfter          // it is there by then, or said again
	attrAfter = 500 * time.Millisecond // a mode or time alone goes to the object
	pollNotes = time.Second            // between looks at the notes while the bus is away
)

func (o *Options) fill() {
	if o.Seen == nil {
		o.Seen = func(string, time.Duration) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Deadline == 0 {
		o.Deadline = 30 * time.Second
	}
	if o.Reconcile == 0 {
		o.Reconcile = 5 * time.Minute
	}
}

// A Status is a mount at one moment. The totals count since the start.
type Status struct {
	Ready   bool
	Trusted bool // nothing that is announced is missed; opens ask the store else
	Files   int
	Bytes   int64
	Open    int   // handles
	Pending int   // changes that are not in the bucket yet
	Staged  int64 // bytes of files that are being written, or were and are open
	Pos     manifest.Position
	Reason  string   // why it is not in step; "" when it is
	GivenUp []string // the last changes of names that the store refused for good

	Uploads, UploadedBytes int64
	Conflicts, Failed      int64 // writes that came second; changes that the store refused
	Heard, Asked           int64 // changes of others; files that the store was asked about
	Invalidations          int64 // told to the kernel
	Reconciled             int64 // listings of the whole bucket
}
