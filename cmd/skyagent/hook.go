package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// hookGrace bounds the wait, after the command was killed, for processes of its
// own that hold its standard input or output open.
const hookGrace = time.Second

// A hook runs the command of --exec. While it runs, further generations wait
// and are told of together.
type hook struct {
	command string
	dir     string
	ui      *ui

	mu         sync.Mutex // guards what follows
	paths      []manifest.Path
	generation uint64
	wake       chan struct{} // holds a token while paths wait
}

func newHook(command, dir string, ui *ui) *hook {
	return &hook{command: command, dir: dir, ui: ui, wake: make(chan struct{}, 1)}
}

// applied takes note of a generation; it does not block.
func (h *hook) applied(done syncer.Applied) {
	h.note(done.Pos.Generation, done.Changes...)
}

// changed takes note of a file that has no generations.
func (h *hook) changed(path string) { h.note(0, manifest.Path(path)) }

func (h *hook) note(generation uint64, paths ...manifest.Path) {
	if h.command == "" || len(paths) == 0 {
		return
	}
	h.mu.Lock()
	h.paths = append(h.paths, paths...)
	h.generation = generation
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run runs the command whenever something was applied, until ctx ends.
func (h *hook) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		}
		if err := h.runOnce(ctx); err != nil && ctx.Err() == nil {
			h.ui.warn("%v", err)
		}
	}
}

// runOnce runs the command for what waits, if anything does.
func (h *hook) runOnce(ctx context.Context) error {
	h.mu.Lock()
	paths, generation := h.paths, h.generation
	h.paths = nil
	h.mu.Unlock()
	if len(paths) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", h.command)
	if runtime.GOOS == "windows" {
		cmd = exec.CommandContext(ctx, "cmd", "/C", h.command)
	}
	cmd.Dir = h.dir
	cmd.Env = append(cmd.Environ(), "SKYAGENT_GENERATION="+strconv.FormatUint(generation, 10))
	cmd.Stdin = strings.NewReader(lines(paths))
	cmd.Stdout, cmd.Stderr = h.ui.err, h.ui.err // standard output is ours
	cmd.WaitDelay = hookGrace
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("--exec command for generation %d: %w", generation, err)
	}
	return nil
}

func lines(paths []manifest.Path) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString(string(p))
		b.WriteByte('\n')
	}
	return b.String()
}
