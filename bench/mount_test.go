//go:build linux

package bench_test

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
)

const (
	mountRounds  = 5
	randomReads  = 2000
	distantFiles = 500
)

// BenchmarkMount compares skyagent's mount with rclone's, each with caches that
// are empty before and the store's own files in memory. SKYAGENT_MOUNT_SIZE is
// the large file's size in MiB, 2,048 where it is not set. It needs /dev/fuse
// and, to drop caches, root.
func BenchmarkMount(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	tools := mountings(b, server.Endpoint)
	bucket, size := server.NewBucket(b), mountSize(b)
	source := b.TempDir()
	writeNoise(b, filepath.Join(source, "large"), size)
	if err := os.Rename(smallFiles(b), filepath.Join(source, "tree")); err != nil {
		b.Fatal(err)
	}
	run(b, rclone(b, server).push(source, bucket))
	warm := func() { dropCaches(b); warmUp(b, server.Dir) }
	part := func(name string, do func(m *measurements, tool mounting)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m := &measurements{b: b, tools: tools, objects: server.Dir}
				for round := range mountRounds {
					m.inTurn(round, func(tool mounting) { do(m, tool) })
				}
				m.report()
			}
		})
	}
	part("reads", func(m *measurements, tool mounting) { m.reads(tool, bucket, size, warm) })
	part("tree", func(m *measurements, tool mounting) { m.tree(tool, bucket, warm) })
	part("writes", func(m *measurements, tool mounting) { m.writes(tool, server.NewBucket(m.b), size, warm) })
}

// BenchmarkMountDistant compares them on a store that is 25 ms away: 500 files of
// 16 KiB in 10 directories, and the requests that they cost.
func BenchmarkMountDistant(b *testing.B) {
	server := servers.Versitygw(b)
	server.Setenv(b)
	proxy := servers.NewProxy(b, server.Endpoint)
	b.Setenv("AWS_ENDPOINT_URL_S3", proxy.URL)
	tools, tree := mountings(b, proxy.URL), distantTree(b)
	proxy.Delay(25 * time.Millisecond)
	for b.Loop() {
		m := &measurements{b: b, tools: tools, objects: server.Dir, proxy: proxy}
		for round := range mountRounds {
			m.inTurn(round, func(tool mounting) { m.distant(tool, server.NewBucket(b), tree) })
		}
		m.report()
	}
}

// measurements are all times and requests of all tools.
type measurements struct {
	b     *testing.B
	tools []mounting
	proxy *servers.Proxy // before the store; nil is none

	objects string   // where the store keeps its objects
	names   []string // in the order of their first measurement
	times   map[string]map[string][]time.Duration
	asked   map[string]map[string][]int
}

// inTurn gives each tool a round; none is always first.
func (m *measurements) inTurn(round int, do func(tool mounting)) {
	for i := range m.tools {
		do(m.tools[(i+round)%len(m.tools)])
	}
}

// take measures do and, where there is a proxy, counts its requests.
func (m *measurements) take(tool mounting, what string, do func()) {
	m.b.Helper()
	if m.proxy != nil {
		m.proxy.Take()
	}
	began := time.Now()
	do()
	took := time.Since(began)
	if m.times[what] == nil {
		if m.times == nil {
			m.times, m.asked = map[string]map[string][]time.Duration{}, map[string]map[string][]int{}
		}
		m.names = append(m.names, what)
		m.times[what], m.asked[what] = map[string][]time.Duration{}, map[string][]int{}
	}
	m.times[what][tool.name] = append(m.times[what][tool.name], took)
	line := fmt.Sprintf("%-20s %-8s %9.3f s", what, tool.name, took.Seconds())
	if m.proxy != nil {
		requests := m.proxy.Take()
		m.asked[what][tool.name] = append(m.asked[what][tool.name], len(requests))
		line += " " + tally(requests)
	}
	m.b.Log(line)
}

// tally counts requests by method.
func tally(requests []string) string {
	counts := map[string]int{}
	for _, r := range requests {
		method, _, _ := strings.Cut(r, " ")
		counts[method]++
	}
	return fmt.Sprint(counts)
}

// report gives medians, and how many times faster skyagent is than rclone.
func (m *measurements) report() {
	for _, what := range m.names {
		unit := strings.ReplaceAll(what, " ", "-")
		medians := map[string]float64{}
		for name, times := range m.times[what] {
			medians[name] = medianOf(times).Seconds()
			m.b.ReportMetric(medians[name], unit+"-"+name+"-s")
			if asked := m.asked[what][name]; asked != nil {
				m.b.ReportMetric(float64(medianOf(asked)), unit+"-"+name+"-requests")
			}
		}
		if ours, theirs := medians["skyagent"], medians["rclone"]; ours > 0 && theirs > 0 {
			m.b.ReportMetric(theirs/ours, unit+"-times-faster")
			m.b.Logf("%-20s skyagent is %.2f times as fast as rclone", what, theirs/ours)
		}
	}
}

func medianOf[T cmp.Ordered](values []T) T {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// mounted mounts while do runs; before is called first.
func (m *measurements) mounted(tool mounting, bucket string, mode mode, before func(), do func(dir string)) {
	m.b.Helper()
	dir, cache := m.b.TempDir(), m.b.TempDir()
	before()
	stop := tool.mount(m.b, bucket, dir, cache, mode)
	do(dir)
	stop()
	os.RemoveAll(cache)
}

// reads measures the large file: whole, whole again, and at random places.
func (m *measurements) reads(tool mounting, bucket string, size int64, warm func()) {
	m.mounted(tool, bucket, durable, warm, func(dir string) {
		m.take(tool, "read cold", func() { readWhole(m.b, filepath.Join(dir, "large"), size) })
		m.take(tool, "read warm", func() { readWhole(m.b, filepath.Join(dir, "large"), size) })
		warm() // the tool's own cache stays
		m.take(tool, "random cached", func() { readRandom(m.b, filepath.Join(dir, "large"), size) })
	})
	m.mounted(tool, bucket, durable, warm, func(dir string) {
		m.take(tool, "random cold", func() { readRandom(m.b, filepath.Join(dir, "large"), size) })
	})
}

// tree measures small files.
func (m *measurements) tree(tool mounting, bucket string, warm func()) {
	m.mounted(tool, bucket, durable, warm, func(dir string) {
		tree := filepath.Join(dir, "tree")
		m.take(tool, "find cold", func() { m.shell("find %q -ls", tree) })
		m.take(tool, "find again", func() { m.shell("find %q -ls", tree) })
	})
	m.mounted(tool, bucket, durable, warm, func(dir string) {
		m.take(tool, "cat tree cold", func() { m.shell("find %q -type f -print0 | xargs -0 cat", filepath.Join(dir, "tree")) })
	})
}

// writes measures the large file's way into a bucket, close included.
func (m *measurements) writes(tool mounting, bucket string, size int64, warm func()) {
	m.mounted(tool, bucket, durable, warm, func(dir string) {
		m.take(tool, "write", func() {
			writeNoise(m.b, filepath.Join(dir, "file"), size)
			m.stored(filepath.Join(bucket, "file"), 1)
		})
	})
	m.mounted(tool, bucket, writeBack, warm, func(dir string) {
		m.take(tool, "write-back", func() { writeNoise(m.b, filepath.Join(dir, "later"), size) })
		m.stored(filepath.Join(bucket, "later"), 1) // unmount waits for half a minute at the most
	})
	for _, name := range []string{"file", "later"} { // or all rounds together need 40 GB
		os.Remove(filepath.Join(m.objects, bucket, name))
	}
}

// stored waits until the store has n files below path. Who uploads before a close
// returns need not wait.
func (m *measurements) stored(path string, n int) {
	m.b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * program.Patience); ; <-tick.C {
		found := 0
		filepath.WalkDir(filepath.Join(m.objects, path), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				found++
			}
			return nil
		})
		if found == n {
			return
		}
		if time.Now().After(deadline) {
			m.b.Fatalf("%s has %d files in the store, want %d", path, found, n)
		}
	}
}

// distant measures what people do with small files on a store that is far.
func (m *measurements) distant(tool mounting, bucket, tree string) {
	nothing := func() {}
	m.mounted(tool, bucket, durable, nothing, func(dir string) {
		m.take(tool, "cp -r", func() {
			m.shell("cp -r %q %q", tree, filepath.Join(dir, "tree"))
			m.stored(filepath.Join(bucket, "tree"), distantFiles)
		})
	})
	m.mounted(tool, bucket, durable, nothing, func(dir string) {
		m.take(tool, "cat cold", func() { m.shell("find %q -type f -print0 | xargs -0 cat", dir) })
	})
	m.mounted(tool, bucket, durable, nothing, func(dir string) {
		m.take(tool, "ls -lR cold", func() { m.shell("ls -lR %q", dir) })
		m.take(tool, "ls -lR again", func() { m.shell("ls -lR %q", dir) })
	})
	m.mounted(tool, bucket, writeBack, nothing, func(dir string) {
		m.take(tool, "cp -r, written back", func() {
			m.shell("cp -r %q %q", tree, filepath.Join(dir, "again"))
			m.stored(filepath.Join(bucket, "again"), distantFiles)
		})
	})
	m.mounted(tool, bucket, durable, nothing, func(dir string) {
		m.take(tool, "rm -r", func() { m.shell("rm -r %q", filepath.Join(dir, "tree")) })
	})
}

// shell runs a line with paths, and drops what it prints.
func (m *measurements) shell(line string, paths ...any) {
	m.b.Helper()
	cmd := exec.Command("bash", "-o", "pipefail", "-c", fmt.Sprintf(line, paths...))
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		m.b.Fatalf("%s: %v\n%s", cmd, err, &said)
	}
}

func readWhole(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf, sum := make([]byte, 1<<20), int64(0)
	for {
		n, err := f.Read(buf)
		sum += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if sum != size {
		b.Fatalf("%s has %d bytes, want %d", path, sum, size)
	}
}

func readRandom(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rnd, buf := rand.New(rand.NewPCG(1, 2)), make([]byte, 4<<10)
	for range randomReads {
		if _, err := f.ReadAt(buf, rnd.Int64N(size>>12)<<12); err != nil {
			b.Fatal(err)
		}
	}
}

func mountSize(b *testing.B) int64 {
	b.Helper()
	mib := int64(2048)
	if s := os.Getenv("SKYAGENT_MOUNT_SIZE"); s != "" {
		var err error
		if mib, err = strconv.ParseInt(s, 10, 64); err != nil {
			b.Fatalf("SKYAGENT_MOUNT_SIZE: %v", err)
		}
	}
	return mib << 20
}

// dropCaches empties the kernel's caches, so that nobody reads what another left.
func dropCaches(b *testing.B) {
	b.Helper()
	exec.Command("sync").Run()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		b.Fatalf("%v\nhint: this benchmark must be run by root", err)
	}
}

// warmUp reads the store's files, whose disk is nobody's to be judged by.
func warmUp(b *testing.B, dir string) {
	b.Helper()
	if out, err := exec.Command("sh", "-c", `find "$0" -type f -print0 | xargs -0 cat > /dev/null`, dir).CombinedOutput(); err != nil {
		b.Fatalf("read the store's files: %v\n%s", err, out)
	}
}

func distantTree(b *testing.B) string {
	b.Helper()
	tree := b.TempDir()
	for i := range distantFiles {
		dir := filepath.Join(tree, fmt.Sprint("dir-", i%10))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		writeFile(b, filepath.Join(dir, fmt.Sprint("file-", i)), 16<<10, uint64(i))
	}
	return tree
}

func writeFile(b *testing.B, path string, size int, seed uint64) {
	b.Helper()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(content)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		b.Fatal(err)
	}
}
