package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) flushCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "flush [DIR]",
		Short: "Wait until what was written through mounts is in the bucket",
		Long: `Wait until all that was written through the mount that DIR lies in, or through
all mounts of this machine, is in the bucket.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			mounts := localMounts(p.places.run)
			if len(args) == 1 {
				r, _, err := mountOf(mounts, args[0])
				if err != nil {
					return err
				}
				mounts = []agentRecord{r}
			}
			return p.flush(cmd.Context(), mounts, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after `TIME` (default: never)")
	return cmd
}

// flush flushes mounts side by side.
func (p *program) flush(ctx context.Context, mounts []agentRecord, timeout time.Duration) error {
	if len(mounts) == 0 {
		p.ui.say("nothing is mounted on this machine")
	}
	failed := make([]error, len(mounts))
	var all sync.WaitGroup
	for i, r := range mounts {
		all.Go(func() { failed[i] = p.flushMount(ctx, r, timeout) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// A flushLine is what mount flush --json prints for every mount.
type flushLine struct {
	Mount   string  `json:"mount"`
	Left    int     `json:"left"` // changes that are not in the bucket yet
	Seconds float64 `json:"seconds"`
}

func (p *program) flushMount(ctx context.Context, r agentRecord, timeout time.Duration) error {
	began := time.Now()
	answer, err := r.ask(ctx, controlRequest{Do: doFlush, Timeout: timeout})
	if err != nil {
		return err
	}
	took := time.Since(began)
	switch {
	case answer.Left > 0:
		p.ui.record(flushLine{r.Path, answer.Left, took.Seconds()})
		return withHint(fmt.Errorf("mount %s: %s not in the bucket after %s", r.Path, areLeft(answer.Left), timeout),
			"the mount goes on bringing them; skyagent status tells why it takes so long")
	case answer.Error != "":
		return fmt.Errorf("flush the mount %s: %s", r.Path, answer.Error)
	}
	p.ui.say("all that was written to %s is in the bucket", r.Path)
	p.ui.record(flushLine{r.Path, 0, took.Seconds()})
	return nil
}

func areLeft(n int) string {
	if n == 1 {
		return "1 change is"
	}
	return plural(n, "change") + " are"
}
