package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/storage"
)

// agentFlags are the flags of agent.
type agentFlags struct {
	file, store, exec string
	create            bool
	poll              time.Duration
	mount             mountFlags
}

// copyFlags are what the flags say to its copies.
func (f agentFlags) copyFlags() copyFlags { return copyFlags{exec: f.exec, poll: f.poll} }

func (p *program) agentCommand() *cobra.Command {
	f := agentFlags{mount: newMountFlags()}
	cmd := &cobra.Command{
		Use:   "agent -f TASK.yaml",
		Short: "Bring every file mount of a SkyPilot task into place, and keep it so",
		Long: `Bring every file mount of a task that has a bucket into place on this worker,
and keep it so: COPY as a replica, MOUNT as a file system, MOUNT_CACHED as one
with --write-back, a single object as a file. One that fails is tried again,
with growing pauses, while the others go on. Somebody else's bucket that may not
be written is mounted for reading. Files that come from the task's own machine
without a bucket are skyagent watch's to send.
The flags of mounts go to all mounts of the task, those of copies to all copies.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.file == "" {
				return usageIn(cmd, errors.New("which task? name its file with -f"))
			}
			if err := f.mount.check(cmd.Flags()); err != nil {
				return err
			}
			return p.serve(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "the task's `FILE`")
	flags.StringVar(&f.store, "store", "", "where storages are whose store the task leaves open: file, s3, r2 or gcs (default: by this machine's credentials)")
	flags.BoolVar(&f.create, "create", false, "make the buckets of storages without a source, should they not be there")
	flags.StringVar(&f.exec, "exec", "", "run `CMD` in a copy's directory after each generation, changed paths on its standard input")
	flags.DurationVar(&f.poll, "poll", 15*time.Second, "how often copies look at the log while the bus is away")
	f.mount.register(flags)
	return cmd
}

// serve runs the file mounts of a task until ctx ends.
func (p *program) serve(ctx context.Context, f agentFlags) error {
	began := time.Now()
	task, err := p.workerTask(f)
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	a, err := p.startAgent(ctx)
	if err != nil {
		return err
	}
	var left []string
	for _, m := range task.Mounts {
		if m.Mode == storage.Rsync {
			left = append(left, m.Path)
			continue
		}
		a.newSeat(m, onDisk(m.Path, home), f)
	}
	if len(left) > 0 {
		p.ui.say("left to skyagent watch where the task is from: %s", strings.Join(left, ", "))
	}
	if len(a.seats) == 0 {
		p.ui.say("no file mount of %s has a bucket: nothing to do", f.file)
		return a.end()
	}
	a.service("first round", func(ctx context.Context) error { return a.sayRound(ctx, task.Name, began) })
	var all sync.WaitGroup
	for _, s := range a.seats {
		s.findUnder(a.seats)
	}
	for _, s := range a.seats {
		all.Go(func() { s.run(ctx) })
	}
	all.Wait()
	tellSystemd("STOPPING=1")
	return a.end()
}

// A taskLine is what agent --json prints when all file mounts are in place, or
// were tried.
type taskLine struct {
	Ready   bool    `json:"ready"` // all are in place
	Task    string  `json:"task,omitempty"`
	Mounts  int     `json:"mounts"`
	Failed  int     `json:"failed"`
	Seconds float64 `json:"seconds"`
	Metrics string  `json:"metrics,omitempty"`
}

// sayRound says how the first try of every file mount went.
func (a *agent) sayRound(ctx context.Context, task string, began time.Time) error {
	failed := 0
	for _, s := range a.seats {
		select {
		case <-s.tried:
		case <-ctx.Done():
			return nil
		}
		if s.notReady() != nil {
			failed++
		}
	}
	took := time.Since(began)
	if failed == 0 {
		a.p.ui.say("%s in place in %s", plural(len(a.seats), "file mount"), round(took))
	} else {
		a.p.ui.say("%d of %s in place in %s", len(a.seats)-failed, plural(len(a.seats), "file mount"), round(took))
	}
	a.p.ui.record(taskLine{Ready: failed == 0, Task: task, Mounts: len(a.seats), Failed: failed, Seconds: took.Seconds(), Metrics: a.metricsURL})
	tellSystemd(fmt.Sprintf("READY=1\nSTATUS=%d of %d file mounts in place at the start", len(a.seats)-failed, len(a.seats)))
	return nil
}

// onDisk returns a mount's path on this machine.
func onDisk(path, home string) string {
	if path == "~" {
		return home
	}
	if below, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, filepath.FromSlash(below))
	}
	return filepath.FromSlash(path)
}

// workerTask reads a task file as a worker does: sources are elsewhere.
func (p *program) workerTask(f agentFlags) (*storage.Task, error) {
	content, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	found := storage.FindCredentials(os.LookupEnv, home, storage.Disk{})
	if f.store != "" {
		if _, ok := stores[f.store]; !ok && f.store != "file" {
			return nil, usageHint(fmt.Errorf("no store %q", f.store), "--store is one of "+strings.Join(storeNames(), ", "))
		}
		found = []storage.Credential{{Store: storage.Store(f.store), Where: "--store"}}
	}
	task, err := storage.Parse(f.file, content, storage.Options{
		Env: os.LookupEnv, Home: home, Dir: dir, Buckets: p.places.buckets, Files: storage.Disk{}, Worker: true,
		Known: func(string) bool { return true }, Credentials: found,
	})
	if err != nil {
		return nil, err
	}
	for _, w := range task.Warnings {
		p.ui.warn("%v", w)
		p.ui.hint(w)
	}
	return task, nil
}
