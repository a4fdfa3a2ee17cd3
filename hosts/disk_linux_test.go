package hosts_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/integration/servers"
)

// TestDiskFull wants a host whose disk is full to be named, the other to have
// everything, and the full one to get it when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("it mounts a small disk: run it as root")
	}
	good, bad := servers.Sshd(t), servers.Sshd(t)
	small := filepath.Join(bad.Dir, "target")
	must(t, os.Mkdir(small, 0o755))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	config := filepath.Join(t.TempDir(), "config")
	must(t, os.WriteFile(config, []byte(bad.ClientConfig("bad")+good.ClientConfig("good")), 0o600))
	r := newRig(t, config, "~/target", "bad", "good")
	write(t, filepath.Join(r.source, "large"), strings.Repeat("0123456789abcdef", 2<<20/16))
	r.run(t)
	r.waitFailure(t, hosts.DiskFull, "No space left on device")
	r.waitSame(t, filepath.Join(good.Dir, "target"))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=16m"))
	r.waitSame(t, small)
}
