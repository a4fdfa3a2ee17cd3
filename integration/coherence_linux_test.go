package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/servers"
)

// mounts mounts the rig's bucket several times, on one bus, and waits until all
// trust it.
func (r *rig) mounts(t *testing.T, n int, args ...string) []string {
	t.Helper()
	nats := servers.NATS(t, servers.NATSOptions{})
	var dirs []string
	for range n {
		dir, _ := r.mount(t, append([]string{"--nats", nats.URL}, args...)...)
		dirs = append(dirs, dir)
	}
	r.waitMounts(t, n, nats.URL)
	return dirs
}

func (r *rig) waitMounts(t *testing.T, n int, nats string) {
	t.Helper()
	waitFor(t, "mounts to trust the bus", func() bool {
		ready := 0
		for _, w := range r.status(t, "--nats", nats).Workers {
			if w.Mode == "MOUNT" && w.State == "READY" {
				ready++
			}
		}
		return ready == n
	})
}

// TestMountRegisters has several processes on several mounts write and read the
// same files: no open may miss a write whose close had returned.
func TestMountRegisters(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 4)
	ops := 20_000
	if os.Getenv("SKYAGENT_LONG") != "" {
		ops = 100_000
	}
	posix.Registers(t, dirs, posix.RegistersOptions{Ops: ops, Seed: seeded(t).Uint64(), InPlace: true, Overlap: false})
	r.flush(t, dirs[0]) // it removes what was kept beside, a tenth of the operations
}

// flush waits until all that was changed at dir is in the bucket.
func (r *rig) flush(t *testing.T, dir string) {
	t.Helper()
	if res := r.home.Run(t, "mount", "flush", dir, "--timeout", "10m"); res.Code != 0 {
		t.Errorf("flush: %s", res.Stderr)
	}
}

// TestMountRegistersPaused is TestMountRegisters with mounts, and their bus, that
// are stopped now and then, some for longer than the bus is trusted without a word.
// Time does not make an open miss a write whose close had returned.
func TestMountRegistersPaused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	var dirs []string
	pauses := []pausing{{nats.Freeze, nats.Thaw}}
	for range 3 {
		dir, p := r.mount(t, "--nats", nats.URL)
		dirs = append(dirs, dir)
		signal := func(s syscall.Signal) func() {
			return func() {
				if err := syscall.Kill(p.PID(), s); err != nil {
					t.Error(err)
				}
			}
		}
		pauses = append(pauses, pausing{signal(syscall.SIGSTOP), signal(syscall.SIGCONT)})
	}
	r.waitMounts(t, len(dirs), nats.URL)
	ops := 2000
	if os.Getenv("SKYAGENT_LONG") != "" {
		ops = 30_000
	}
	rnd := seeded(t)
	seed := rnd.Uint64()
	ctx, end := context.WithCancel(t.Context())
	var paused sync.WaitGroup
	paused.Go(func() { pauseInTurn(ctx, rnd, pauses) })
	defer paused.Wait()
	defer end()
	posix.Registers(t, dirs, posix.RegistersOptions{Ops: ops, Seed: seed, InPlace: true})
	end()
	paused.Wait()
	r.flush(t, dirs[0])
}

// A pausing is a process that can be stopped and go on.
type pausing struct{ pause, resume func() }

// pauseInTurn stops one after another, at random, until ctx ends: most for a
// moment, some for longer than anybody is trusted.
func pauseInTurn(ctx context.Context, rnd *rand.Rand, all []pausing) {
	sleep := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	for ctx.Err() == nil {
		sleep(time.Duration(rnd.Int64N(int64(400 * time.Millisecond))))
		one := all[rnd.IntN(len(all))]
		most := 100 * time.Millisecond
		if rnd.IntN(6) == 0 {
			most = 6 * time.Second
		}
		one.pause()
		sleep(time.Duration(rnd.Int64N(int64(most))))
		one.resume()
	}
}

func TestMountPingPong(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2)
	took := posix.PingPong(t, dirs[0], dirs[1], 200)
	slices.Sort(took)
	t.Logf("a round of two writes and two reads: p50 %v, p99 %v", took[len(took)/2], took[len(took)*99/100])
}

// TestMountVisible has every mount read what another one has just closed, new
// files and new versions, at the first attempt, and measures how long all of them
// take.
func TestMountVisible(t *testing.T) {
	for _, n := range []int{2, 8} {
		t.Run(fmt.Sprintf("%d mounts", n), func(t *testing.T) {
			r := newRig(t)
			dirs := r.mounts(t, n)
			var opened, closed []time.Duration
			for i := range 200 {
				name, want := fmt.Sprint("f", i/4), fmt.Sprintf("version %d", i)
				for _, dir := range dirs { // a new file is one that they have missed
					if _, err := os.Stat(filepath.Join(dir, name)); i%4 == 0 && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s before it was made: %v", name, err)
					}
				}
				began := time.Now()
				write(t, filepath.Join(dirs[i%n], name), want)
				ended := time.Now()
				var all sync.WaitGroup
				for _, dir := range dirs {
					all.Go(func() {
						if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
							t.Errorf("after the close of %q, %s has %q (%v)", want, dir, b, err)
						}
					})
				}
				all.Wait()
				opened, closed = append(opened, time.Since(began)), append(closed, time.Since(ended))
			}
			slices.Sort(opened)
			slices.Sort(closed)
			t.Logf("read on all of %d mounts: from close p50 %v, p99 %v; from the writer's open p50 %v, p99 %v",
				n, closed[100], closed[198], opened[100], opened[198])
		})
	}
}

// TestMountIdle leaves a mount alone whose files are all cached, and looks at
// them again: nothing of that costs a request. The tree comes from one listing.
func TestMountIdle(t *testing.T) {
	r := newRig(t)
	files, idle := 1000, 3*time.Second
	if os.Getenv("SKYAGENT_LONG") != "" {
		files, idle = 10_000, time.Minute
	}
	for i := range files {
		write(t, filepath.Join(r.source, fmt.Sprint("dir-", i%10), fmt.Sprint("file-", i)), fmt.Sprint("content ", i))
	}
	if res := r.home.Run(t, "sync", r.source, "--to", r.url); res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir := r.mounts(t, 1)[0]
	started := proxy.Take()
	list(t, dir, files)
	if asked := proxy.Take(); len(asked) != 0 {
		t.Errorf("ls -lR of %d files cost %d requests, the first %q", files, len(asked), asked[0])
	}
	readAll(t, dir)
	proxy.Take()
	<-time.After(idle) // the time is what is tested
	list(t, dir, files)
	readAll(t, dir)
	if asked := proxy.Take(); len(asked) != 0 {
		t.Errorf("%v of idleness and reading all again cost %d requests, the first %q", idle, len(asked), asked[0])
	}
	t.Logf("%d files, %v idle: 0 requests; mounting took %d", files, idle, len(started))
}

// list looks at all files below dir, as ls -lR does, and wants n of them.
func list(t *testing.T, dir string, n int) {
	t.Helper()
	found := 0
	must(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found++
			_, err = d.Info()
		}
		return err
	}))
	if found != n {
		t.Errorf("%d files, want %d", found, n)
	}
}

func readAll(t *testing.T, dir string) {
	t.Helper()
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = os.ReadFile(filepath.Join(dir, path))
		}
		return err
	}))
}
