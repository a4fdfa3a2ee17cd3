package bus_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/bus"
)

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	got := make([]*bus.Key, 8)
	for i := range got {
		wg.Go(func() {
			k, err := bus.LoadOrCreateKey(dir)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = k
		})
	}
	wg.Wait()
	for _, k := range got {
		if k == nil || k.ID() != got[0].ID() || !bytes.Equal(k.Public(), got[0].Public()) {
			t.Fatalf("two keys in one directory")
		}
	}
	if len(got[0].ID()) != 20 || bus.WriterID(append(got[0].Public(), '\n')) != got[0].ID() {
		t.Errorf("id %q does not follow from the public key", got[0].ID())
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestKeyRefusesWrongFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := bus.LoadOrCreateKey(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "writer.nk")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
		if err := os.Chmod(name, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := bus.LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), "0600") {
			t.Errorf("a key that others may read: %v", err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("SUAAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.LoadOrCreateKey(dir); err == nil {
		t.Error("a damaged key was taken, or replaced")
	}
}

func writeSeed(t *testing.T, seed []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(name, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
