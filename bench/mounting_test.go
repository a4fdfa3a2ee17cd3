//go:build linux

package bench_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// A mounting is a tool that mounts buckets.
type mounting struct {
	name string
	// mount mounts with empty caches in cache; args are of mode. stop unmounts.
	mount func(b *testing.B, bucket, dir, cache string, mode mode) (stop func())
}

// A mode says when a written file goes to the bucket.
type mode bool

const (
	durable   mode = false // with its close; the measurement ends when it is there
	writeBack mode = true  // some time later; the measurement ends with the close
)

// mountings are skyagent and rclone, or those that SKYAGENT_MOUNT_TOOLS names.
func mountings(b *testing.B, endpoint string) []mounting {
	b.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		b.Fatalf("%v\nhint: this benchmark mounts", err)
	}
	all := []mounting{{"skyagent", mountSkyagent(servers.NATS(b, servers.NATSOptions{}).URL)}, {"rclone", mountRclone(b, endpoint)}}
	only := os.Getenv("SKYAGENT_MOUNT_TOOLS")
	return slices.DeleteFunc(all, func(m mounting) bool { return only != "" && !strings.Contains(only, m.name) })
}

// mountSkyagent mounts with a bus, and waits until the mount trusts it.
func mountSkyagent(nats string) func(b *testing.B, bucket, dir, cache string, mode mode) func() {
	return func(b *testing.B, bucket, dir, cache string, mode mode) func() {
		home := &program.Home{Dir: cache, Env: []string{"SKYAGENT_HOME=" + cache}}
		args := []string{"mount", "s3://" + bucket, dir, "--nats", nats}
		if mode == writeBack {
			args = append(args, "--write-back")
		}
		p := home.Start(b, args...)
		p.Ready()
		for deadline := time.Now().Add(program.Patience); !trusted(b, home, bucket, nats); {
			if time.Now().After(deadline) {
				b.Fatalf("skyagent mount does not trust its bus\n%s", p.Stderr())
			}
		}
		return func() {
			if code := p.Stop(); code != 0 {
				b.Fatalf("skyagent mount: exit %d\n%s", code, p.Stderr())
			}
		}
	}
}

// trusted reports whether the only mount of bucket is in step.
func trusted(b *testing.B, home *program.Home, bucket, nats string) bool {
	r := home.Run(b, "status", "s3://"+bucket, "--nats", nats, "--json")
	return strings.Contains(r.Stdout, `"state":"READY"`)
}

// mountRclone mounts with the cache that people recommend. With a write-back of
// 0 s an upload begins with the close, which does not wait for it.
func mountRclone(b *testing.B, endpoint string) func(b *testing.B, bucket, dir, cache string, mode mode) func() {
	b.Helper()
	binary := servers.Rclone(b)
	return func(b *testing.B, bucket, dir, cache string, mode mode) func() {
		args := []string{"mount", "bench:" + bucket, dir, "--vfs-cache-mode", "full", "--vfs-cache-max-age", "24h", "--cache-dir", cache}
		if mode == durable {
			args = append(args, "--vfs-write-back", "0s")
		}
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "RCLONE_CONFIG="+os.DevNull, "RCLONE_CONFIG_BENCH_TYPE=s3", "RCLONE_CONFIG_BENCH_PROVIDER=Other",
			"RCLONE_CONFIG_BENCH_ENV_AUTH=true", "RCLONE_CONFIG_BENCH_REGION=us-east-1", "RCLONE_CONFIG_BENCH_ENDPOINT="+endpoint)
		return startMount(b, cmd, dir)
	}
}

// startMount starts a mounter in the foreground and waits until it has mounted.
func startMount(b *testing.B, cmd *exec.Cmd, dir string) (stop func()) {
	b.Helper()
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); cmd.Wait() }()
	b.Cleanup(func() { cmd.Process.Kill(); <-done; exec.Command("umount", "-q", dir).Run() })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(program.Patience); !isMounted(dir); {
		select {
		case <-done:
			b.Fatalf("%s ended\n%s", cmd, &said)
		case <-deadline:
			b.Fatalf("%s does not mount", cmd)
		case <-tick.C:
		}
	}
	return func() { cmd.Process.Signal(os.Interrupt); <-done }
}

func isMounted(dir string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(table), " "+dir+" ")
}
