package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	ownReadiness  = "http://127.0.0.1:9464/readyz"
	healthTimeout = 5 * time.Second        // of one question
	healthAgain   = 250 * time.Millisecond // between two
)

func (p *program) healthCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "health [URL...]",
		Short: "Ask agents and servers whether they are well",
		Long: `Ask every URL, and end well when all of them answer 200. Without one it is the
readiness of the agent at 127.0.0.1:9464. Containers, which have no other
program, check their health by it and wait for the servers that they need.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, urls []string) error {
			if len(urls) == 0 {
				urls = []string{ownReadiness}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			for _, url := range urls {
				if err := waitWell(cmd.Context(), ctx, url); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "ask again for as long as this")
	return cmd
}

// waitWell asks until url answers well or patience ends, and once at least.
func waitWell(ctx, patience context.Context, url string) error {
	for {
		err := askHealth(ctx, url)
		if err == nil || patience.Err() != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-patience.Done():
		case <-time.After(healthAgain):
		}
	}
}

// askHealth returns what is wrong, in the server's words where it has some.
func askHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return withHint(fmt.Errorf("health of %s: %w", url, errors.Unwrap(err)), "start it, or give its address")
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	words, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	return fmt.Errorf("health of %s: %s: %s", url, resp.Status, oneLine(strings.TrimSpace(string(words))))
}
