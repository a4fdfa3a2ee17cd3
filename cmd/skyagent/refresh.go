package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) refreshCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "refresh PATH...",
		Short: "Let a mount show at once what strangers wrote",
		Long: `Have the mounts of this machine look at what the bucket has at and below each
path now. What skyagent writes is seen without; what other programs put into the
bucket without a word is seen at the next reconciliation, or by this.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			mounts := localMounts(p.places.run)
			for _, path := range args {
				if err := p.refresh(cmd.Context(), mounts, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// A refreshLine is what refresh --json prints for every path.
type refreshLine struct {
	Path    string  `json:"path"`  // as it was given
	Mount   string  `json:"mount"` // its mount point
	Seconds float64 `json:"seconds"`
}

func (p *program) refresh(ctx context.Context, mounts []agentRecord, path string) error {
	began := time.Now()
	r, below, err := mountOf(mounts, path)
	if err != nil {
		return err
	}
	answer, err := r.ask(ctx, controlRequest{Do: doRefresh, Path: below})
	if err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("refresh %s: %s", path, answer.Error)
	}
	took := time.Since(began)
	p.ui.say("refreshed %s in %s", path, round(took))
	p.ui.record(refreshLine{path, r.Path, took.Seconds()})
	return nil
}
