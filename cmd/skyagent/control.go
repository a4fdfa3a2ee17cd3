package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A running part listens on a unix socket, whose path stands in its record, so
// that whoever may read the record can ask it for something. A connection
// carries one request and one answer, each a line of JSON. Who closes it before
// the answer no longer wants it: what was asked for is given up.

// A controlRequest is what a part is asked for.
type controlRequest struct {
	Do      string        `json:"do"`                // one of the constants below
	Why     string        `json:"why,omitempty"`     // to leave, for people
	Path    string        `json:"path,omitempty"`    // to refresh, below the mount point; "" is all
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds; 0 is as long as the asker stays
}

const (
	doRefresh = "refresh"
	doFlush   = "flush"
	doLeave   = "leave" // to finish and end, as after Ctrl-C
)

// A controlAnswer says how it went.
type controlAnswer struct {
	Error string `json:"error,omitempty"` // "" is well
	Left  int    `json:"left,omitempty"`  // changes that are not in the bucket yet when the time was up
}

// An obliging is a mount that can be asked.
type obliging interface {
	// Refresh looks at what the bucket has at and below path now.
	Refresh(ctx context.Context, path string) error
	// Flush waits until all that was changed is in the bucket.
	Flush(ctx context.Context) error
	// Left is how many changes are not in the bucket yet.
	Left() int
}

const (
	// maxSocketPath is what fits into the address of a unix socket everywhere.
	maxSocketPath = 100
	maxRequest    = 64 << 10
	acceptPause   = time.Second // after a failure, which may be for want of descriptors
)

// A control is the socket of one part.
type control struct {
	mount    obliging         // nil when the part is none
	leave    func(why string) // makes the part end
	listener net.Listener
	path     string
	private  string // a directory made for it where the usual path is too long
	log      *slog.Logger
}

// listenControl makes the part's socket below the run directory, in place of
// what a killed process with the same id left. Only this user can connect.
func listenControl(run string, pt *part, m obliging) (*control, error) {
	c := &control{path: filepath.Join(run, "agents", pt.id+".sock"), log: pt.log, mount: m, leave: pt.leave}
	if err := c.listen(); err != nil {
		c.removePrivate()
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	return c, nil
}

func (c *control) listen() error {
	// The directory is what keeps others out until the socket's mode is set.
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	if len(c.path) > maxSocketPath {
		var err error
		if c.private, err = os.MkdirTemp("", "skyagent-"); err != nil {
			return err
		}
		c.path = filepath.Join(c.private, "control.sock")
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var err error
	if c.listener, err = net.Listen("unix", c.path); err != nil {
		return err
	}
	if err := os.Chmod(c.path, 0o600); err != nil {
		return errors.Join(err, c.listener.Close())
	}
	return nil
}

// serve answers until ctx ends, and removes the socket.
func (c *control) serve(ctx context.Context) error {
	defer c.removePrivate()
	var answers sync.WaitGroup
	defer answers.Wait()
	defer c.listener.Close()
	defer context.AfterFunc(ctx, func() { c.listener.Close() })()
	for ctx.Err() == nil {
		conn, err := c.listener.Accept()
		if err == nil {
			answers.Go(func() { c.answer(ctx, conn) })
			continue
		}
		if ctx.Err() == nil {
			c.log.Warn("request not taken", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(acceptPause):
		}
	}
	return nil
}

func (c *control) removePrivate() {
	if c.private != "" {
		os.RemoveAll(c.private)
	}
}

// answer serves one connection.
func (c *control) answer(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	lines := bufio.NewReader(io.LimitReader(conn, maxRequest))
	line, err := lines.ReadBytes('\n')
	var ask controlRequest
	if err == nil {
		err = json.Unmarshal(line, &ask)
	}
	if err != nil {
		c.log.Debug("request not understood", "err", err)
		conn.Close()
		return
	}
	var stays sync.WaitGroup
	stays.Go(func() {
		defer cancel()
		io.Copy(io.Discard, conn)
	})
	if err := json.NewEncoder(conn).Encode(c.obey(ctx, ask)); err != nil {
		c.log.Debug("answer not taken", "err", err)
	}
	conn.Close()
	stays.Wait()
}

// obey does what is asked for.
func (c *control) obey(ctx context.Context, ask controlRequest) controlAnswer {
	if ask.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ask.Timeout)
		defer cancel()
	}
	var err error
	switch {
	case ask.Do == doLeave:
		c.leave(ask.Why)
	case c.mount == nil:
		err = errors.New("this is no mount")
	case ask.Do == doRefresh:
		err = c.mount.Refresh(ctx, ask.Path)
	case ask.Do == doFlush:
		err = c.mount.Flush(ctx)
	default:
		err = fmt.Errorf("request %q is not known to this version of skyagent", ask.Do)
	}
	if err == nil {
		return controlAnswer{}
	}
	answer := controlAnswer{Error: err.Error()}
	if ask.Do == doFlush && ctx.Err() != nil {
		answer.Left = c.mount.Left()
	}
	return answer
}

// ask sends a request to the part that r tells of, and returns its answer.
func (r agentRecord) ask(ctx context.Context, request controlRequest) (controlAnswer, error) {
	var answer controlAnswer
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.Control)
	if err != nil {
		return answer, fmt.Errorf("reach the %s %s: %w", r.Role, r.Path, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err = json.NewEncoder(conn).Encode(request); err == nil {
		err = json.NewDecoder(conn).Decode(&answer)
	}
	switch {
	case ctx.Err() != nil:
		return answer, ctx.Err()
	case errors.Is(err, io.EOF):
		return answer, fmt.Errorf("ask the %s %s: it ended", r.Role, r.Path)
	case err != nil:
		return answer, fmt.Errorf("ask the %s %s: %w", r.Role, r.Path, err)
	}
	return answer, nil
}

// localMounts returns the mounts of this machine that can be asked.
func localMounts(run string) []agentRecord {
	var mounts []agentRecord
	for _, r := range localAgents(run) {
		if r.Control != "" && r.Mode == "MOUNT" {
			mounts = append(mounts, r)
		}
	}
	return mounts
}

// mountOf returns the innermost of mounts that path lies in, and where: below
// its mount point, with slashes, "" for the mount point itself.
func mountOf(mounts []agentRecord, path string) (agentRecord, string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return agentRecord{}, "", fmt.Errorf("find %s: %w", path, err)
	}
	for _, p := range []string{abs, resolved(abs)} {
		if r, below, ok := innermost(mounts, p); ok {
			return r, below, nil
		}
	}
	return agentRecord{}, "", withHint(fmt.Errorf("%s is in no mount of skyagent on this machine", path), "%s", knownMounts(mounts))
}

func innermost(mounts []agentRecord, abs string) (best agentRecord, below string, ok bool) {
	for _, r := range mounts {
		rel, err := filepath.Rel(r.Path, abs)
		if err == nil && filepath.IsLocal(rel) && (!ok || len(r.Path) > len(best.Path)) {
			best, below, ok = r, filepath.ToSlash(rel), true
		}
	}
	if below == "." {
		below = ""
	}
	return best, below, ok
}

// resolved returns path without symlinks, as far as it is there.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolved(dir), filepath.Base(path))
}

func knownMounts(mounts []agentRecord) string {
	if len(mounts) == 0 {
		return "nothing is mounted here: start skyagent mount first"
	}
	var dirs []string
	for _, r := range mounts {
		dirs = append(dirs, r.Path)
	}
	return "mounted here: " + strings.Join(dirs, ", ")
}
