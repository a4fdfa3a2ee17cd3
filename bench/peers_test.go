package bench_test

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

// How often every tool does every transfer, in turn. Their medians are compared.
const (
	smallRounds = 5
	largeRounds = 3
)

// A tool moves a directory to a bucket and back.
type tool struct {
	name string
	push func(dir, bucket string) *exec.Cmd
	pull func(bucket, dir string) *exec.Cmd
}

// A cost is what a command took.
type cost struct {
	wall, cpu time.Duration // cpu is the client's own, user and system
}

// BenchmarkSmallFiles pushes and pulls five directories of the Linux kernel's
// sources, 10,656 files, when SKYAGENT_LINUX_SOURCE says where they are, and
// the Go toolchain's sources otherwise.
func BenchmarkSmallFiles(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	tools := []tool{skyagent(b), rclone(b, server), mc(b, server)}
	tree := smallFiles(b)
	for b.Loop() {
		compare(b, server, tools, tree, smallRounds)
	}
}

// BenchmarkLargeFile pushes and pulls one file of 2 GiB.
func BenchmarkLargeFile(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	tools := []tool{skyagent(b), rclone(b, server)}
	if aws, err := exec.LookPath("aws"); err == nil {
		tools = append(tools, awsCLI(aws, server))
	} else {
		b.Log("no aws in PATH: not compared with; Debian has it as awscli")
	}
	dir := b.TempDir()
	writeNoise(b, filepath.Join(dir, "large"), 2<<30)
	for b.Loop() {
		compare(b, server, tools, dir, largeRounds)
	}
}

// compare runs all tools in turn and reports how the first one does against the
// best of the others.
func compare(b *testing.B, server *servers.S3Server, tools []tool, tree string, rounds int) {
	b.Helper()
	pushes, pulls := make([][]cost, len(tools)), make([][]cost, len(tools))
	for round := range rounds {
		var copies []string
		for i := range tools {
			i := (i + round) % len(tools) // nobody is always first
			bucket, copied := server.NewBucket(b), filepath.Join(b.TempDir(), "copy")
			pushes[i] = append(pushes[i], run(b, tools[i].push(tree, bucket)))
			pulls[i] = append(pulls[i], run(b, tools[i].pull(bucket, copied)))
			same(b, tools[i].name, tree, copied)
			copies = append(copies, copied, filepath.Join(server.Dir, bucket))
		}
		// Only between rounds: ext4 is slow to make files for some seconds
		// after many were deleted.
		for _, dir := range copies {
			os.RemoveAll(dir)
		}
		settle()
	}
	report(b, "push", tools, pushes)
	report(b, "pull", tools, pulls)
}

// settle waits until the disk has nothing left to do for what is over: each
// round pays for its own writes.
func settle() {
	exec.Command("sync").Run()
	time.Sleep(6 * time.Second) // what is deleted costs most in the next seconds; the rest hits all alike, as the order turns
}

func report(b *testing.B, what string, tools []tool, costs [][]cost) {
	b.Helper()
	typical := make([]cost, len(tools))
	for i, tool := range tools {
		for _, c := range costs[i] {
			b.Logf("%s %-8s wall %6.2f s, client cpu %6.2f s", what, tool.name, c.wall.Seconds(), c.cpu.Seconds())
		}
		typical[i] = cost{middle(costs[i], byWall).wall, middle(costs[i], byCPU).cpu}
	}
	wall, cpu := slices.MinFunc(typical[1:], byWall).wall, slices.MinFunc(typical[1:], byCPU).cpu
	b.ReportMetric(typical[0].wall.Seconds(), what+"-s")
	b.ReportMetric(float64(typical[0].wall)/float64(wall), what+"-wall/best-peer")
	b.ReportMetric(float64(typical[0].cpu)/float64(cpu), what+"-cpu/best-peer")
}

func middle(costs []cost, by func(x, y cost) int) cost {
	sorted := slices.SortedFunc(slices.Values(costs), by)
	return sorted[len(sorted)/2]
}

func byWall(x, y cost) int { return cmp.Compare(x.wall, y.wall) }
func byCPU(x, y cost) int  { return cmp.Compare(x.cpu, y.cpu) }

func run(b *testing.B, cmd *exec.Cmd) cost {
	b.Helper()
	wall := timeOf(b, cmd)
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// same reports when what was pulled is not what was pushed.
func same(b *testing.B, name, want, got string) {
	b.Helper()
	count := func(dir string) (files int, bytes int64) {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				fi, _ := d.Info()
				files, bytes = files+1, bytes+fi.Size()
			}
			return err
		})
		return files, bytes
	}
	wantFiles, wantBytes := count(want)
	if files, bytes := count(got); files != wantFiles || bytes != wantBytes {
		b.Fatalf("%s pulled %d files of %d bytes, pushed were %d of %d", name, files, bytes, wantFiles, wantBytes)
	}
}

// skyagent runs each transfer from a home of its own: as on two machines.
func skyagent(b *testing.B) tool {
	program.Binary(b)
	command := func(args ...string) *exec.Cmd {
		return program.NewHome(b).Command(b, append(args, "--metrics", "off", "--quiet")...)
	}
	return tool{"skyagent",
		func(dir, bucket string) *exec.Cmd { return command("sync", dir, "--to", "s3://"+bucket) },
		func(bucket, dir string) *exec.Cmd { return command("copy", "s3://"+bucket, dir, "--once") }}
}

func rclone(b *testing.B, server *servers.S3Server) tool {
	binary := servers.Rclone(b)
	config := filepath.Join(b.TempDir(), "rclone.conf")
	text := fmt.Sprintf("[s3]\ntype = s3\nprovider = Other\nendpoint = %s\naccess_key_id = %s\nsecret_access_key = %s\nregion = us-east-1\n",
		server.Endpoint, server.AccessKey, server.SecretKey)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	command := func(from, to string) *exec.Cmd {
		return exec.Command(binary, "--config", config, "copy", "--transfers", "64", "--checkers", "64", from, to)
	}
	return tool{"rclone",
		func(dir, bucket string) *exec.Cmd { return command(dir, "s3:"+bucket) },
		func(bucket, dir string) *exec.Cmd { return command("s3:"+bucket, dir) }}
}

func mc(b *testing.B, server *servers.S3Server) tool {
	binary := servers.MC(b)
	host := "MC_HOST_s3=" + strings.Replace(server.Endpoint, "://", "://"+server.AccessKey+":"+server.SecretKey+"@", 1)
	config := "MC_CONFIG_DIR=" + b.TempDir()
	command := func(from, to string) *exec.Cmd {
		cmd := exec.Command(binary, "mirror", "--quiet", from, to)
		cmd.Env = append(os.Environ(), host, config)
		return cmd
	}
	return tool{"mc",
		func(dir, bucket string) *exec.Cmd { return command(dir, "s3/"+bucket) },
		func(bucket, dir string) *exec.Cmd { return command("s3/"+bucket, dir) }}
}

// awsCLI names the endpoint: Debian's version does not know the variable.
func awsCLI(binary string, server *servers.S3Server) tool {
	command := func(from, to string) *exec.Cmd {
		cmd := exec.Command(binary, "--endpoint-url", server.Endpoint, "s3", "cp", "--quiet", "--recursive", from, to)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return kv == "AWS_PROFILE=" }) // "" is one to it
		return cmd
	}
	return tool{"aws",
		func(dir, bucket string) *exec.Cmd { return command(dir, "s3://"+bucket) },
		func(bucket, dir string) *exec.Cmd { return command("s3://"+bucket, dir) }}
}

// smallFiles returns a copy of the tree, so that the first tool does not find it
// colder than the others.
func smallFiles(b *testing.B) string {
	b.Helper()
	linux := os.Getenv("SKYAGENT_LINUX_SOURCE")
	if linux == "" {
		b.Log("SKYAGENT_LINUX_SOURCE is not set: the Go toolchain's sources instead")
		return copyOfGoTree(b)
	}
	tree := b.TempDir()
	args := []string{"-a"}
	for _, dir := range []string{"fs", "include", "kernel", "mm", "net"} {
		args = append(args, filepath.Join(linux, dir))
	}
	if out, err := exec.Command("cp", append(args, tree)...).CombinedOutput(); err != nil {
		b.Fatalf("copy the sources: %v\n%s", err, out)
	}
	dropLinks(b, tree)
	return tree
}

// dropLinks removes symlinks, which mc follows and the others skip.
func dropLinks(b *testing.B, tree string) {
	b.Helper()
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// writeNoise writes size bytes that nothing compresses.
func writeNoise(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	source := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1<<20)
	for ; size > 0; size -= int64(len(buf)) {
		source.Read(buf)
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}
