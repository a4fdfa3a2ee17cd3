package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// TestEveryCommandIsDocumented keeps docs/cli.md the same words as the help.
func TestEveryCommandIsDocumented(t *testing.T) {
	root := (&program{ui: newUI(io.Discard, io.Discard)}).command()
	var b strings.Builder
	fmt.Fprintf(&b, "# The command line\n\n```text\n%s\n```\n\nFlags of every command:\n\n```text\n%s```\n",
		root.Long, root.PersistentFlags().FlagUsages())
	for _, c := range root.Commands() {
		describe(&b, c)
	}
	b.WriteString(machineOutput)
	path := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/cli.md is not what the help says (%v): run make docs", err)
	}
}

func describe(b *strings.Builder, c *cobra.Command) {
	if !c.IsAvailableCommand() || c.Name() == "completion" { // cobra explains it at length
		return
	}
	if strings.Contains(c.Use, " ") || !c.HasSubCommands() { // one that only groups others takes no arguments
		about := c.Long
		if about == "" {
			about = c.Short + "."
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n", c.UseLine(), about)
		if usages := c.LocalNonPersistentFlags().FlagUsages(); usages != "" {
			fmt.Fprintf(b, "\n```text\n%s```\n", usages)
		}
	}
	for _, sub := range c.Commands() {
		describe(b, sub)
	}
}

// machineOutput is the part of the contract that no help prints.
const machineOutput = `
## Machine output

With ` + "`--json`" + ` a command prints one JSON object, or one a line for streams. Fields are only added.

- ` + "`sync --json`" + `, last line: ` + "`storage, generation, files, bytes, uploaded_files, uploaded_bytes, copied_files, copied_bytes, reused_bytes, deleted, skipped, ignored, failed, conflicts, seconds`" + ` (` + "`copied_*`" + ` counts copies inside the store).
- ` + "`copy --once --json`" + `, last line: ` + "`storage, generation, files, bytes, fetched_files, fetched_bytes, reused_bytes, deleted, conflicts, failed, seconds`" + `.
- ` + "`watch --json`" + `: a line a generation ` + "`generation, changes, uploaded_bytes, seconds`" + `, and ` + "`ready: true, storage, source, path, generation, files, bytes, skipped, ignored, metrics`" + ` once the first sync is committed and the watch is live.
- ` + "`copy --json`" + `: a line an applied step ` + "`generation, changes, failed, seconds, lag_seconds`" + `, and the line with ` + "`ready`" + ` when the first generation is in place.
- ` + "`status --json`" + `: ` + "`storage, bus, sources: [id, host, pid, path, generation, state, reason, dirty, skipped, failed, left, seen], workers: [id, host, mode, path, generation, lag, state, reason, partial, left, seen]`" + `. States: STARTING, READY, SYNCING, PARTIAL, DEGRADED, GUARDED; AWAY is a source that nobody watches.
- ` + "`watch --json`" + ` of several storages names the ` + "`storage`" + ` in a generation's line, too. With ` + "`--until-done`" + ` a line ` + "`storage, workers`" + ` when workers come or leave.
- ` + "`storage ls --json`" + `: ` + "`storages: [name, created, store, command, status, url, persistent]`" + `, with -v also ` + "`generation, files, bytes, workers, lag, error`" + `; ` + "`storage info`" + ` and ` + "`storage create`" + ` print one of these. States: INIT, UPLOADING, READY, SYNCING, DEGRADED, GUARDED, UPLOAD_FAILED, DELETING.
- ` + "`storage delete --json`" + `: a line a storage ` + "`name, objects, absent, theirs, seconds`" + `; ` + "`absent`" + ` says that the bucket was deleted elsewhere, ` + "`theirs`" + ` that others made it anew since: it stays.
- ` + "`mount --json`" + `: the line with ` + "`ready`" + ` when the tree is there and programs may read.
- ` + "`agent --json`" + `: the lines of its copies and mounts; ` + "`path, error, retry_seconds`" + ` for a file mount that failed; ` + "`ready, task, mounts, failed, seconds, metrics`" + ` once, when every file mount was tried.
- ` + "`watch --json` and `sync --json`" + ` with ` + "`--host`" + `: a line a transfer ` + "`host, source, path, first, sent, deleted, seconds, error, retry_seconds`" + `; ` + "`status --json`" + ` then ends with ` + "`hosts: [host, source, path, state, reason, files, pending, skipped]`" + `.
- ` + "`why --json`" + `: a line a path ` + "`path, source, source_by, verdict, at, rule: [file, line, pattern]`" + `. Verdicts: synced, ignored, symlink, special (FIFO, socket or device), name (not UTF-8), reserved, unreadable, absent; ` + "`at`" + ` is the directory above that the verdict is about, where it is one. ` + "`source_by`" + ` says how the source was found: flag, watch, earlier, git, skyignore, directory.
- ` + "`refresh --json`" + `: a line a path ` + "`path, mount, seconds`" + `.
- ` + "`mount flush --json`" + `: a line a mount ` + "`mount, left, seconds`" + `; ` + "`left`" + ` changes are not in the bucket when the time is up.
- ` + "`events --json`" + `: the event as published.

## Places

State (keys, indexes, the registry of storages, the embedded bus) in ` + "`$XDG_STATE_HOME/skyagent`" + `, file stores in ` + "`$XDG_DATA_HOME/skyagent/buckets/NAME`" + `, the running bus's address in ` + "`$XDG_RUNTIME_DIR/skyagent`" + ` (or the state directory). ` + "`SKYAGENT_HOME`" + ` moves all of them under one root.
`
