package main

import (
	"context"
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/skyagent/skyagent/syncer"
)

const progressEvery = 100 * time.Millisecond

// showProgress draws a bar on a terminal until ctx ends, then clears it.
// Elsewhere, and with --json or -q, it does nothing. The function that it
// returns waits for the end.
func (p *program) showProgress(ctx context.Context, what string, read func() syncer.Progress) (wait func()) {
	if p.flags.json || p.flags.quiet || !isTerminal(p.ui.err) {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.draw(ctx, what, read)
	}()
	return func() { <-done }
}

func (p *program) draw(ctx context.Context, what string, read func() syncer.Progress) {
	bar := progressbar.NewOptions64(1, progressbar.OptionSetWriter(p.ui.err), progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish(), progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true))
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			bar.Clear()
			return
		case <-tick.C:
		}
		now := read()
		if now.Files == 0 {
			continue
		}
		bar.ChangeMax64(max(now.Bytes, 1))
		bar.Describe(fmt.Sprintf("%s %d/%d files", what, now.DoneFiles, now.Files))
		bar.Set64(now.DoneBytes)
	}
}
