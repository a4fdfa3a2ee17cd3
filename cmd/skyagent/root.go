package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/objstore/pace"
	"github.com/skyagent/skyagent/storage/registry"
)

// Exit codes; the help of every command lists them.
const (
	exitDone   = 0
	exitError  = 1
	exitUsage  = 2
	exitPartly = 3
)

const longHelp = `skyagent keeps a directory, a bucket and any number of workers the same.

A local watch uploads only what changed, and publishes an event; workers that
follow the storage fetch, verify and place exactly that. Nobody waits for a
poll while the bus lives, and nothing is lost when it does not.

Without any configuration the bucket is a directory below the data directory,
and the bus is embedded in the watch:

  skyagent watch ~/datasets            # in one terminal
  skyagent copy datasets ./replica     # in another

A storage is a URL (s3://bucket/prefix, r2://bucket, gs://bucket, file:///path)
or the name of one that was made on this machine.

Exit codes: 0 done, 1 error, 2 usage, 3 partly synced.`

// A program is what all commands share: where to speak, and the common flags.
type program struct {
	ui     *ui
	places places
	flags  commonFlags
	partly atomic.Bool // something was left out, and was told of
	in     io.Reader   // where a person answers
	args   []string    // the command line

	regMu sync.Mutex // guards reg
	reg   *registry.Registry
}

// commonFlags are the flags that several commands have.
type commonFlags struct {
	json      bool
	quiet     bool
	verbose   bool
	anonymous bool
	nats      string
	metrics   string
	source    string
	limits    pace.Limits
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{ui: newUI(stdout, stderr), in: stdin, args: args}
	defer p.closeStorages()
	root := p.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil && p.partly.Load():
		return exitPartly
	case err == nil:
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = withHint(errors.New("interrupted"), "run it again: it goes on from where it was")
	}
	p.ui.fail(err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitError
}

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:                        "skyagent",
		Short:                      "Live, verified, shared storage for cloud workers",
		Long:                       longHelp,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			p.ui.json, p.ui.quiet = p.flags.json, p.flags.quiet
			if err := checkLimits(p.flags.limits); err != nil {
				return err
			}
			p.places, err = findPlaces()
			return err
		},
		Version: buildVersion(),
	}
	root.SetVersionTemplate("skyagent {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageIn(cmd, err) })
	flags := root.PersistentFlags()
	flags.BoolVar(&p.flags.json, "json", false, "machine output: one JSON object, or one a line for streams")
	flags.BoolVarP(&p.flags.quiet, "quiet", "q", false, "only errors")
	flags.BoolVarP(&p.flags.verbose, "verbose", "v", false, "also what happens to each file")
	flags.StringVar(&p.flags.source, "source", "main", "id of the source within its storage")
	flags.StringVar(&p.flags.nats, "nats", "", "`URL[,URL]` of the bus (default: embedded, or the one on this machine)")
	flags.StringVar(&p.flags.metrics, "metrics", "127.0.0.1:9464", "`ADDR` for Prometheus and health; off to disable; a taken port moves on to the next")
	flags.BoolVar(&p.flags.anonymous, "anonymous", false, "send no credentials, for public buckets")
	limitFlags(flags, &p.flags.limits)
	root.AddCommand(p.watchCommand(), p.syncCommand(), p.copyCommand(), p.mountCommand(), p.agentCommand(), p.refreshCommand(),
		p.statusCommand(), p.healthCommand(), p.eventsCommand(), p.storageCommand(), p.whyCommand(), p.debugCommand(), p.versionCommand())
	root.InitDefaultCompletionCmd()
	checkArgs(root)
	return root
}

// checkArgs makes a wrong command, or a wrong number of arguments, a usage
// error, here and in all commands below.
func checkArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		checkArgs(c)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = chooseCommand
		return
	}
	cmd.Args = usageArgs(cmd.Args)
}

// chooseCommand is what a command that only has others below it does.
func chooseCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := usagef("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return withHint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return usageIn(cmd, err)
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) == nil {
			return nil
		}
		return usageIn(cmd, fmt.Errorf("wrong number of arguments (%d): the usage is skyagent %s", len(args), usageLine(cmd)))
	}
}

// usageLine returns the command with its arguments, without the program.
func usageLine(cmd *cobra.Command) string {
	line := cmd.Use
	for c := cmd.Parent(); c != nil && c.HasParent(); c = c.Parent() {
		line = c.Name() + " " + line
	}
	return line
}

// usageIn makes err a mistake in the use of cmd.
func usageIn(cmd *cobra.Command, err error) error {
	return withHint(usageError{err}, "see %s --help", cmd.CommandPath())
}

// logger returns where the packages log to: standard error, as text for
// people, as JSON beside machine output.
func (p *program) logger() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case p.flags.quiet:
		level = slog.LevelError
	case p.flags.verbose:
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	if p.flags.json {
		return slog.New(slog.NewJSONHandler(p.ui.err, opts))
	}
	return slog.New(slog.NewTextHandler(p.ui.err, opts))
}
