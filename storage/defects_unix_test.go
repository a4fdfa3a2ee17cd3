//go:build unix

package storage_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A FIFO makes SkyPilot's upload fail as a whole.
func TestD11ListedFIFO(t *testing.T) {
	b := newBench(t)
	if err := syscall.Mkfifo(filepath.Join(b.home, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	task, problems := b.parse(t, "file_mounts: {/m: {name: bkt, source: [~/fifo, ~/file]}}")
	if problems != nil || len(task.Mounts[0].Sources) != 1 || len(task.Warnings) != 1 || !strings.Contains(task.Warnings[0].Message, "neither a file nor a directory") {
		t.Errorf("got %+v, %v", task, problems)
	}
	b.refused(t, "file_mounts: {/m: {name: bkt, source: ~/fifo}}", "only directories are supported")
}
