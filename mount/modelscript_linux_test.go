package mount

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask has somebody ask the mount for something, and wait for half a minute.
func (w *modelWorld) ask(request func(context.Context)) {
	w.call(func() {
		ctx, cancel := context.WithTimeout(w.m.ctx, leave)
		defer cancel()
		request(ctx)
	}, func() {})
}

// step does what a line of a script says. What makes no sense where things stand
// is nothing, so that a script may lose any of its lines.
func (w *modelWorld) step(line string) {
	w.log.Info("step " + line)
	f := append(strings.Fields(line), "", "", "", "")
	n, _ := strconv.Atoi(f[2])
	switch f[0] {
	case "open":
		w.open(f[1], f[2], f[3])
	case "write":
		w.write(f[1], f[2])
	case "cut":
		w.cut(f[1], n)
	case "truncate":
		w.truncate(f[1], n)
	case "sync":
		w.sync(f[1])
	case "close":
		w.close(f[1])
	case "read":
		w.read(f[1])
	case "rename":
		w.rename(f[1], f[2])
	case "unlink":
		w.unlink(f[1])
	case "mkdir":
		w.mkdir(f[1])
	case "rmdir":
		w.rmdir(f[1])
	case "chmod":
		w.chmod(f[1], uint32(0o600+n))
	case "store":
		w.answer(f[1], f[2], f[3])
	case "theirs":
		w.others(f[1], f[2], f[3] == "told")
	case "hear":
		w.bus.hear()
	case "sleep":
		d, _ := time.ParseDuration(f[1])
		w.harmed = w.harmed || d > w.m.opt.Deadline
		time.Sleep(d)
	case "leave":
		w.leave()
	case "flush":
		w.ask(func(ctx context.Context) { _ = w.m.Flush(ctx) })
	case "refresh":
		w.ask(func(ctx context.Context) { _ = w.m.Refresh(ctx, "") })
	case "kill":
		w.kill(f[1] == "done")
	default:
		w.blame("no such step: %s", line)
	}
	w.rest()
}

// A modelRun is one script, as it went.
type modelRun struct {
	script []string
	faults []string
}

// runModel runs what next says, line after line, until it says "" or something is
// wrong, and then brings all to its end.
func runModel(t *testing.T, kind modelKind, log *slog.Logger, next func(*modelWorld) string) (run modelRun) {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t, kind, dir, log)
		for line := next(w); line != "" && len(w.faults) == 0; line = next(w) {
			run.script = append(run.script, line)
			w.step(line)
		}
		if len(w.faults) == 0 {
			w.finish()
		}
		run.faults = w.faults
		w.end()
	})
	return run
}

func runScript(t *testing.T, kind modelKind, log *slog.Logger, script []string) modelRun {
	return runModel(t, kind, log, func(*modelWorld) string {
		if len(script) == 0 {
			return ""
		}
		line := script[0]
		script = script[1:]
		return line
	})
}

// shrink leaves out of script what is not needed for a fault.
func shrink(t *testing.T, kind modelKind, script []string) modelRun {
	log := slog.New(slog.DiscardHandler)
	best := runScript(t, kind, log, script)
	for size := len(best.script) / 2; size > 0; {
		cut := false
		for at := 0; at+size <= len(best.script); {
			less := slices.Delete(slices.Clone(best.script), at, at+size)
			if run := runScript(t, kind, log, less); len(run.faults) > 0 {
				best, cut = run, true
				continue
			}
			at++
		}
		if !cut {
			size /= 2
		}
	}
	return best
}
