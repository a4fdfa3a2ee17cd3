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

// A running mount listens on a unix socket, whose path stands in its record, so
// that whoever may read the record can ask it for something. A connection
// carries one request and one answer, each a line of JSON. Who closes it before
// the answer no longer wants it: what was asked for is given up.

// A controlRequest is what a mount is asked for.
type controlRequest struct {
	Do      string        `json:"do"`                // one of the constants below
	Path    string        `json:"path,omitempty"`    // to refresh, below the mount point; "" is all
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds; 0 is as long as the asker stays
}

const (
	doRefresh = "refresh"
	doFlush   = "flush"
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

// A control is the socket of one mount.
type control struct {
	listener net.Listener
	path     string
	private  string // a directory made for it where the usual path is too long
	log      *slog.Logger
}

// listenControl makes the socket of the part id below the run directory, in
// place of what a killed process with the same id left. Only this user can
// connect.
func listenControl(run, id string, log *slog.Logger) (*control, error) {
	c := &control{path: filepath.Join(run, "agents", id+".sock"), log: log}
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

// serve answers for m until ctx ends, and removes the socket.
func (c *control) serve(ctx context.Context, m obliging) error {
	defer c.removePrivate()
	var answers sync.WaitGroup
	defer answers.Wait()
	defer c.listener.Close()
	defer context.AfterFunc(ctx, func() { c.listener.Close() })()
	for ctx.Err() == nil {
		conn, err := c.listener.Accept()
		if err == nil {
			answers.Go(func() { c.answer(ctx, conn, m) })
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
func (c *control) answer(ctx context.Context, conn net.Conn, m obliging) {
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
	if err := json.NewEncoder(conn).Encode(obey(ctx, m, ask)); err != nil {
		c.log.Debug("answer not taken", "err", err)
	}
	conn.Close()
	stays.Wait()
}

// obey does what is asked for.
func obey(ctx context.Context, m obliging, ask controlRequest) controlAnswer {
	if ask.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ask.Timeout)
		defer cancel()
	}
	var err error
	switch ask.Do {
	case doRefresh:
		err = m.Refresh(ctx, ask.Path)
	case doFlush:
		err = m.Flush(ctx)
	default:
		err = fmt.Errorf("request %q is not known to this version of skyagent", ask.Do)
	}
	if err == nil {
		return controlAnswer{}
	}
	answer := controlAnswer{Error: err.Error()}
	if ask.Do == doFlush && ctx.Err() != nil {
		answer.Left = m.Left()
	}
	return answer
}

// askMount sends a request to the mount that r tells of, and returns its answer.
func askMount(ctx context.Context, r agentRecord, ask controlRequest) (controlAnswer, error) {
	var answer controlAnswer
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.Control)
	if err != nil {
		return answer, fmt.Errorf("reach the mount %s: %w", r.Path, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err = json.NewEncoder(conn).Encode(ask); err == nil {
		err = json.NewDecoder(conn).Decode(&answer)
	}
	switch {
	case ctx.Err() != nil:
		return answer, ctx.Err()
	case errors.Is(err, io.EOF):
		return answer, fmt.Errorf("ask the mount %s: it ended", r.Path)
	case err != nil:
		return answer, fmt.Errorf("ask the mount %s: %w", r.Path, err)
	}
	return answer, nil
}

// localMounts returns the mounts of this machine that can be asked.
func localMounts(run string) []agentRecord {
	var mounts []agentRecord
	for _, r := range localAgents(run) {
		if r.Control != "" {
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
