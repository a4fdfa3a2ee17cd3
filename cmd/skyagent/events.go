package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/manifest"
)

func (p *program) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "events STORAGE",
		Short: "Follow the events of a storage, one line each",
		Long: `Follow the events of a storage, one line each, until interrupted. Only events
whose signature verifies against a key in the bucket are shown; --json prints
them as they were published.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := p.named(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p.flags.metrics = "off"
			pt, err := p.startOn(cmd.Context(), t, "")
			if err != nil {
				return err
			}
			defer pt.agent.end()
			return p.events(cmd, pt)
		},
	}
}

func (p *program) events(cmd *cobra.Command, pt *part) error {
	ctx := cmd.Context()
	if err := pt.conn.WaitUp(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	notices, err := pt.conn.Events(ctx, pt.target.token(), pt.verifier())
	if err != nil {
		return err
	}
	for n := range notices {
		if n.Lost > 0 {
			p.ui.warn("%s not shown: this terminal was too slow", plural(n.Lost, "event"))
		}
		p.ui.record(json.RawMessage(n.Raw))
		p.ui.say("%s", eventLine(n))
	}
	return nil
}

func eventLine(n bus.Notice) string {
	e := n.Event
	line := fmt.Sprintf("%s  generation %d  %s", e.Time.Local().Format(time.TimeOnly), e.Generation, plural(e.Count, "change"))
	if !e.Complete() {
		return line
	}
	for i, c := range e.Changes {
		if i == 5 {
			return line + fmt.Sprintf("  … %d more", len(e.Changes)-i)
		}
		line += "  " + describeChange(c)
	}
	return line
}

func describeChange(c manifest.Change) string {
	switch {
	case c.Op == manifest.Delete:
		return "-" + printable(string(c.Path))
	case c.IsDir():
		return "+" + printable(string(c.Path)) + "/"
	}
	return "+" + printable(string(c.Path)) + " (" + bytesOf(c.Size) + ")"
}
