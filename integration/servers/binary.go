package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// A tool is a server program that the Go tool can build.
type tool struct {
	name, pkg, version string

	tags   string
	static bool // runs where there is no libc, as in an image of nothing else
}

var (
	versitygw  = tool{name: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw", version: "v1.8.0", static: true}
	fakeGCS    = tool{name: "fake-gcs-server", pkg: "github.com/fsouza/fake-gcs-server", version: "v1.56.1"}
	natsServer = tool{name: "nats-server", pkg: "github.com/nats-io/nats-server/v2", version: "v2.15.2", static: true}
	minio      = tool{name: "minio", pkg: "github.com/minio/minio", version: "v0.0.0-20260212201848-7aac2a2c5b7c"}
)

// binary returns the path of tl's program, built now if it never was. It skips
// a -short test, so it must come before all else that costs time.
func binary(t testing.TB, tl tool) string {
	t.Helper()
	if testing.Short() {
		t.Skipf("-short: needs a real %s", tl.name)
	}
	path, err := tl.ensure()
	if err != nil {
		t.Fatalf("server %s %s: %v", tl.name, tl.version, err)
	}
	return path
}

// Cache returns the directory that holds what tests build or fetch once.
func Cache() (string, error) {
	if dir := os.Getenv("SKYAGENT_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "skyagent"), nil
}

func (tl tool) ensure() (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "servers", tl.name+"-"+tl.version)
	if tl.static {
		dir += "-static"
	}
	path := filepath.Join(dir, tl.name)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Test packages run side by side: the lock lets one of them build.
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, tl.build(dir, path)
}

// build installs into a directory of its own and renames, so that a build
// that is killed leaves no half of a program under the final name.
func (tl tool) build(dir, path string) error {
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "install", "-trimpath", "-ldflags=-s -w", "-tags="+tl.tags, tl.pkg+"@"+tl.version)
	cmd.Dir = tmp // outside the checkout, whose go.mod must not matter
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOBIN="+tmp)
	if tl.static {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s@%s: %w\n%s", tl.pkg, tl.version, err, out)
	}
	return os.Rename(filepath.Join(tmp, filepath.Base(path)), path)
}
