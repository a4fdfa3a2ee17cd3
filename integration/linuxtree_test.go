//go:build linuxtree

package integration_test

import (
	"os"
	"os/exec"
	"testing"
)

// TestLinuxTree does with the Linux kernel's sources what TestGoTree does with
// Go's: run it by make linuxtree.
func TestLinuxTree(t *testing.T) {
	r := newRig(t)
	from := os.Getenv("SKYAGENT_LINUX_SOURCE")
	if from == "" {
		t.Fatal("SKYAGENT_LINUX_SOURCE names no directory: run make linuxtree")
	}
	// cp keeps the symlinks, which are part of the case.
	if out, err := exec.Command("cp", "-a", from+"/.", r.source).CombinedOutput(); err != nil {
		t.Fatalf("copy the sources: %v\n%s", err, out)
	}
	keepsTree(t, r)
}
