package mount

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
		w.kill(f[1] == "done", f[2] == "early")
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

var modelFiles = []string{"a", "b", "d/a", "e/b"}
var modelDirs = []string{"d", "e"}

// A writer of scripts looks at the world and says what comes next.
type modelWriter struct {
	rnd    *rand.Rand
	left   int  // lines
	others bool // write, too
	faults bool // of the store
	kills  bool
	opened int // names of handles so far
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (g *modelWriter) next(w *modelWorld) string {
	if g.left--; g.left < 0 {
		return ""
	}
	waiting := w.store.waiting()
	if len(waiting) > 0 && g.rnd.IntN(100) < 45 {
		return g.answer(waiting)
	}
	names := sortedKeys(w.handles)
	p := pick(g.rnd, modelFiles)
	switch k := g.rnd.IntN(100); {
	case k < 40 && len(names) > 0 && len(names) >= g.rnd.IntN(3):
		return g.use(pick(g.rnd, names))
	case k < 55:
		g.opened++
		return fmt.Sprintf("open %d %s %s", g.opened, p, pick(g.rnd, []string{"c", "c", "c", "w", "t", "r", "x"}))
	case k < 66:
		return fmt.Sprintf("rename %s %s", p, pick(g.rnd, modelFiles))
	case k < 72:
		return "unlink " + p
	case k < 77:
		return "mkdir " + pick(g.rnd, modelDirs)
	case k < 79:
		return "rmdir " + pick(g.rnd, modelDirs)
	case k < 82:
		return fmt.Sprintf("rename %s %s", pick(g.rnd, modelDirs), pick(g.rnd, modelDirs))
	case k < 84:
		return fmt.Sprintf("chmod %s %d", p, g.rnd.IntN(64))
	case k < 86:
		return fmt.Sprintf("truncate %s %d", p, g.rnd.IntN(6))
	case k < 92:
		return "sleep " + pick(g.rnd, []string{"10ms", "300ms", "1500ms", "40s"})
	case k < 93 && g.kills:
		return "leave"
	case k < 95 && g.kills:
		return "kill " + pick(g.rnd, []string{"done", "undone", "done early", "undone early"})
	case k < 98 && g.others:
		return fmt.Sprintf("theirs %s %s %s", pick(g.rnd, []string{"put", "put", "delete"}), p, pick(g.rnd, []string{"told", "untold"}))
	case g.others:
		return pick(g.rnd, []string{"hear", "hear", "refresh"})
	}
	return "flush"
}

func (g *modelWriter) use(name string) string {
	switch k := g.rnd.IntN(100); {
	case k < 45:
		return fmt.Sprintf("write %s %s", name, pick(g.rnd, []string{"put", "add", "mid", "big"}))
	case k < 50:
		return fmt.Sprintf("cut %s %d", name, g.rnd.IntN(6))
	case k < 56:
		return "sync " + name
	case k < 62:
		return "read " + name
	}
	return "close " + name
}

func (g *modelWriter) answer(waiting []*request) string {
	var kinds []string
	for _, r := range waiting {
		kinds = append(kinds, fmt.Sprintf("%s %s", r.op, r.key))
	}
	slices.Sort(kinds)
	how := done
	if g.faults && g.rnd.IntN(4) == 0 {
		how = pick(g.rnd, []string{failed, lost, lost, denied, clashed})
	}
	return fmt.Sprintf("store %s %s", pick(g.rnd, kinds), how)
}

// modelRuns returns the first seed of TestModel, and how many follow.
func modelRuns(t *testing.T) (first, runs uint64) {
	first, runs = 1, 60
	if testing.Short() {
		runs = 15
	}
	if os.Getenv("SKYAGENT_LONG") != "" {
		first, runs = rand.Uint64N(1<<40), 20_000
	}
	if s := os.Getenv("SKYAGENT_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first = seed
	}
	return first, runs
}

// TestModel has programs, others, a store that fails and kills meet at random. A
// script that goes wrong is cut down, and may be put into TestModelMet as it is.
func TestModel(t *testing.T) {
	t.Parallel()
	first, runs := modelRuns(t)
	t.Logf("SKYAGENT_SEED=%d repeats this", first)
	for seed := first; seed < first+runs; seed++ {
		rnd := rand.New(rand.NewPCG(seed, 2))
		chance := func(of int) bool { return rnd.IntN(of) == 0 }
		kind := modelKind{writeBack: chance(2), bus: chance(2), forgetful: chance(2), bare: chance(2)}
		w := &modelWriter{rnd: rnd, left: 10 + rnd.IntN(60), others: chance(2), faults: !chance(3), kills: chance(2)}
		run := runModel(t, kind, slog.New(slog.DiscardHandler), w.next)
		if len(run.faults) == 0 {
			continue
		}
		if less := shrink(t, kind, run.script); len(less.faults) > 0 {
			run = less
		}
		t.Fatalf("SKYAGENT_SEED=%d, %+v:\n\t%s\n%s", seed, kind, strings.Join(run.script, "\n\t"), strings.Join(run.faults, "\n"))
	}
}
