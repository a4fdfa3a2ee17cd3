package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

func (p *program) debugCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "debug", Short: "Look inside what skyagent keeps"}
	cat := &cobra.Command{
		Use:   "cat STORAGE KEY | cat FILE",
		Short: "Print a commit, a checkpoint or a note as JSON lines",
		Long: `Print a commit, a checkpoint or a note of a mount's writes as JSON lines: first
what it says of itself, then one line a change or file. KEY is relative to the storage:
.skyagent/sources/main/log/00000000000000000001`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := p.readObject(cmd, args)
			if err != nil {
				return err
			}
			return printDecoded(p.ui.out, b)
		},
	}
	cmd.AddCommand(cat)
	return cmd
}

func (p *program) readObject(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) == 1 {
		return os.ReadFile(args[0])
	}
	t, err := p.named(cmd.Context(), args[0])
	if err != nil {
		return nil, err
	}
	store, err := p.openStore(cmd.Context(), t, "", nil)
	if err != nil {
		return nil, err
	}
	body, _, err := store.Get(cmd.Context(), strings.TrimPrefix(args[1], "/"), 0, -1, objstore.Cond{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// printDecoded prints whichever of our formats b is in.
func printDecoded(w io.Writer, b []byte) error {
	out := json.NewEncoder(w)
	commit, err := manifest.DecodeCommit(b)
	if err == nil {
		changes := commit.Changes
		commit.Changes = nil
		return encodeLines(out, commit, changes)
	}
	if note, err := manifest.DecodeNote(b); err == nil {
		return printNote(out, note)
	}
	checkpoint, errCheckpoint := manifest.DecodeCheckpoint(b)
	if errCheckpoint != nil {
		return fmt.Errorf("neither a commit (%w) nor a checkpoint (%w) nor a note", err, errCheckpoint)
	}
	var files []manifest.File
	for f := range checkpoint.Manifest.All() {
		files = append(files, f)
	}
	head := struct {
		Epoch      manifest.Epoch `json:"epoch"`
		Generation uint64         `json:"generation"`
		Commit     manifest.Hash  `json:"commit"`
	}{checkpoint.Epoch, checkpoint.Generation, checkpoint.Commit}
	return encodeLines(out, head, files)
}

// printNote prints what one or more mounts wrote.
func printNote(out *json.Encoder, note []manifest.Writes) error {
	for _, w := range note {
		changes := w.Changes
		w.Changes = nil
		if err := encodeLines(out, w, changes); err != nil {
			return err
		}
	}
	return nil
}

func encodeLines[T any](out *json.Encoder, head any, lines []T) error {
	if err := out.Encode(head); err != nil {
		return err
	}
	for _, line := range lines {
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
