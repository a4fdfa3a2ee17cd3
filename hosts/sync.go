package hosts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/manifest"
)

// Changes are where batches of settled paths come from. The first one has a
// Rescan, and one with a Rescan follows rules that changed. Next's error is ctx's.
type Changes interface {
	Next(ctx context.Context) (manifest.Batch, error)
}

// A Mount is a file or directory here, and where it is to be on the hosts.
type Mount struct {
	Source string // absolute
	Dir    bool   // Source is a directory, whose content is to be in Target
	Target string // absolute, or "~" or below "~/"
	// Changes are the source's, for Run: its paths for a directory, its own base
	// name for a file.
	Changes Changes
}

// Options say what goes where.
type Options struct {
	Hosts       []string
	SSH         SSH
	Mounts      []Mount
	State       string        // directory of the records of what was sent
	Parallel    int           // transfers at a time; 0 means 16
	Retry       time.Duration // first pause after a failure, doubling to a minute; 0 means a second
	KeepDeleted bool          // what is gone stays on the hosts
	Ignore      *ignore.Rules // what of directories is not sent; nil for nothing
	// AllowMassDelete lets through what would be Guarded.
	AllowMassDelete bool
	Report          func(Report) // of every transfer, by many goroutines; nil for none
	Log             *slog.Logger // nil discards
}

// A Report is how one transfer went.
type Report struct {
	Host, Source, Target string
	First                bool // a pass over everything
	Sent, Deleted        int  // paths, directories too; what the host had already is among them
	Took                 time.Duration
	Err                  error         // an *Error where a host is at fault
	Retry                time.Duration // the pause until the next try, 0 when there is none
}

// A State is what one host is in the middle of.
type State string

const (
	Starting State = "STARTING" // before the first pass is done
	Ready    State = "READY"
	Syncing  State = "SYNCING"
	Degraded State = "DEGRADED" // the last transfer failed; it is tried again
	Guarded  State = "GUARDED"  // deletions wait for a word
)

// A Status is how one mount does on one host.
type Status struct {
	Host, Source, Target string
	State                State
	Reason               string // of the state, one line
	Files                int    // in the source
	Pending              int    // paths that the host does not have yet
	Skipped              []string
}

// A Sync keeps mounts the same on hosts.
type Sync struct {
	opts    Options
	mounts  []*mount
	control string // directory of the shared connections and of an empty one
	slots   chan struct{}
	slow    chan struct{} // for hosts that failed: they hold nobody up
	once    bool          // nothing is tried again
}

// New returns a Sync. It starts nothing.
func New(o Options) *Sync {
	if o.Parallel == 0 {
		o.Parallel = 16
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.Report == nil {
		o.Report = func(Report) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sync{opts: o, slots: make(chan struct{}, o.Parallel), slow: make(chan struct{}, max(1, o.Parallel/4))}
	for _, m := range o.Mounts {
		s.mounts = append(s.mounts, newMount(s, m))
	}
	return s
}

// Run sends everything, then what changes, until ctx ends; it returns nil then.
// A host that fails is tried again and again. An error is one of this machine.
func (s *Sync) Run(ctx context.Context) error {
	err := s.with(ctx, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, m := range s.mounts {
			g.Go(func() error { return m.run(ctx) })
			for _, l := range m.links {
				g.Go(func() error { return l.run(ctx) })
			}
		}
		return g.Wait()
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Once sends everything once, and deletes what was sent earlier and is gone. The
// error joins those of all hosts that failed.
func (s *Sync) Once(ctx context.Context) error {
	s.once = true
	s.opts.Ignore.Settle(0) // nobody will say when rules have settled
	return s.with(ctx, func(ctx context.Context) error {
		var (
			mu     sync.Mutex
			failed []error
			all    sync.WaitGroup
		)
		for _, m := range s.mounts {
			if err := m.begin(); err != nil {
				return err
			}
			m.decide()
			for _, l := range m.links {
				all.Go(func() {
					if err := l.drain(ctx); err != nil {
						mu.Lock()
						failed = append(failed, err)
						mu.Unlock()
					}
				})
			}
		}
		all.Wait()
		for _, m := range s.mounts {
			if reason := m.guardedBy(); reason != "" {
				failed = append(failed, &GuardedError{m.Source, reason})
			}
		}
		return errors.Join(failed...)
	})
}

// A GuardedError says that deletions were held back.
type GuardedError struct{ Source, Reason string }

func (e *GuardedError) Error() string {
	return fmt.Sprintf("%s: %s; nothing was deleted", e.Source, e.Reason)
}

// with makes the directory of the connections, and ends them after f.
func (s *Sync) with(ctx context.Context, f func(context.Context) error) error {
	var err error
	// The path of a socket must be short: the state directory's may be long.
	if s.control, err = os.MkdirTemp("", "skyagent-ssh-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.control)
	if err := os.Mkdir(s.empty(), 0o700); err != nil {
		return err
	}
	defer s.leave(context.WithoutCancel(ctx))
	return f(ctx)
}

func (s *Sync) empty() string { return filepath.Join(s.control, "empty") }

// leave ends the shared connections.
func (s *Sync) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, partGrace)
	defer cancel()
	var all sync.WaitGroup
	for i, host := range s.opts.Hosts {
		all.Go(func() { (&remote{host: host, ssh: s.opts.SSH, control: controlPath(s.control, i)}).leave(ctx) })
	}
	all.Wait()
}

// Status returns how every mount does on every host.
func (s *Sync) Status() []Status {
	var all []Status
	for _, m := range s.mounts {
		for _, l := range m.links {
			all = append(all, l.status())
		}
	}
	return all
}

// recordFile is where it is recorded what a host was sent of a mount.
func (s *Sync) recordFile(host string, m Mount) string {
	id := manifest.Sum([]byte(strings.Join([]string{host, m.Source, m.Target}, "\x00")))
	return filepath.Join(s.opts.State, id.String()[:32])
}
