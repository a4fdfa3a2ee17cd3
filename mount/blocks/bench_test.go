//go:build unix

package blocks_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

const benchSize = 512 << 20

// reportRate says how fast n bytes came, and what this process took for them.
func reportRate(b *testing.B, n int64, before time.Duration) {
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(n)/1e6/seconds, "MB/s")
	b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op")
}

// cpu returns how much time of a processor this process has taken.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCold reads 512 MiB in a row that the cache does not have, in reads
// of 128 KiB and 1 MiB, and by plain GETs of 8 MiB, eight at a time and as one.
func BenchmarkCold(b *testing.B) {
	server := servers.Versitygw(b)
	s := bucket(b, server, server.Endpoint)
	bytes := content(1, benchSize)
	bare := put(b, s, "a", bytes)
	o := proven(b, bare, bytes)
	for name, o := range map[string]blocks.Object{"proven": o, "unproven": bare} {
		for _, n := range []int{grain, 1 << 20} {
			b.Run(fmt.Sprintf("cache/%s/%d", name, n>>10), func(b *testing.B) {
				before := cpu(b)
				for b.Loop() {
					dir := b.TempDir()
					c := open(b, blocks.Options{Store: s, Dir: dir})
					r := c.Reader(o)
					readThrough(b, r, n)
					r.Close()
					b.StopTimer()
					c.Close()
					os.RemoveAll(dir) // or the disk is busy with it in the next round
					b.StartTimer()
				}
				reportRate(b, benchSize, before)
			})
		}
	}
	b.Run("gets/8", func(b *testing.B) {
		before := cpu(b)
		for b.Loop() {
			plainGets(b, s, o)
		}
		reportRate(b, benchSize, before)
	})
	b.Run("gets/1", func(b *testing.B) {
		before := cpu(b)
		for b.Loop() {
			plainGet(b, s, o, 0, o.Size)
		}
		reportRate(b, benchSize, before)
	})
}

func readThrough(b *testing.B, r *blocks.Reader, n int) {
	p := make([]byte, n)
	for off := int64(0); ; off += int64(n) {
		if _, err := r.ReadAt(b.Context(), p, off); err == io.EOF {
			return
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

func plainGets(b *testing.B, s objstore.Store, o blocks.Object) {
	var all sync.WaitGroup
	next := make(chan int64)
	for range 8 {
		all.Go(func() {
			for off := range next {
				plainGet(b, s, o, off, part)
			}
		})
	}
	for off := int64(0); off < o.Size; off += part {
		next <- off
	}
	close(next)
	all.Wait()
}

func plainGet(b *testing.B, s objstore.Store, o blocks.Object, off, n int64) {
	body, _, err := s.Get(b.Context(), o.Key, off, n, objstore.Cond{If: o.Rev})
	if err != nil {
		b.Error(err)
		return
	}
	defer body.Close()
	buf := make([]byte, min(n, 1<<20))
	for err == nil {
		_, err = body.Read(buf)
	}
	if err != io.EOF {
		b.Error(err)
	}
}

// BenchmarkWarm reads what is on disk.
func BenchmarkWarm(b *testing.B) {
	s, bytes := newStore(), content(1, 64<<20)
	o := proven(b, put(b, s, "a", bytes), bytes)
	c := open(b, blocks.Options{Store: s})
	r := reader(b, c, o)
	readThrough(b, r, 1<<20)
	for _, n := range []int{4096, grain, 1 << 20} {
		b.Run(fmt.Sprint(n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			p := make([]byte, n)
			for off := int64(0); b.Loop(); off = (off + int64(n)) % (o.Size - 1<<20) {
				if _, err := r.ReadAt(b.Context(), p, off); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f, ok := c.File(o)
	if !ok {
		b.Fatal("File says no")
	}
	defer f.Close()
	b.Run("pread/128", func(b *testing.B) {
		b.SetBytes(grain)
		p := make([]byte, grain)
		for off := int64(0); b.Loop(); off = (off + grain) % (o.Size - 1<<20) {
			if _, err := f.ReadAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRandom reads 4 KiB here and there, from 16 goroutines.
func BenchmarkRandom(b *testing.B) {
	server := servers.Versitygw(b)
	s := bucket(b, server, server.Endpoint)
	bytes := content(1, benchSize)
	o := put(b, s, "a", bytes)
	c := open(b, blocks.Options{Store: s})
	r := reader(b, c, o)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 4096)
		for pb.Next() {
			if _, err := r.ReadAt(b.Context(), p, rand.Int64N(benchSize/4096)*4096); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(c.Stats().FromStore)/float64(b.N), "fetched-B/op")
}

// BenchmarkSmall fetches 10,000 contents of 4 KiB ahead and reads them, against
// plain GETs, 64 at a time both.
func BenchmarkSmall(b *testing.B) {
	server := servers.Versitygw(b)
	s := bucket(b, server, server.Endpoint)
	bytes := content(1, 4096)
	objects := make([]blocks.Object, 10_000)
	limit := make(chan struct{}, 64)
	var all sync.WaitGroup
	for i := range objects {
		limit <- struct{}{}
		all.Go(func() { objects[i] = put(b, s, fmt.Sprint("f", i), bytes); <-limit })
	}
	all.Wait()
	b.Run("gets", func(b *testing.B) {
		before := cpu(b)
		for b.Loop() {
			for i := range objects {
				limit <- struct{}{}
				all.Go(func() { plainGet(b, s, objects[i], 0, 4096); <-limit })
			}
			all.Wait()
		}
		reportRate(b, 4096*10_000, before)
	})
	b.Run("prefetch", func(b *testing.B) {
		before := cpu(b)
		for b.Loop() {
			dir := b.TempDir()
			c := open(b, blocks.Options{Store: s, Dir: dir})
			c.Prefetch(objects)
			for i := range objects {
				r := c.Reader(objects[i])
				readThrough(b, r, grain)
				r.Close()
			}
			c.Close()
			b.StopTimer()
			os.RemoveAll(dir)
			b.StartTimer()
		}
		reportRate(b, 4096*10_000, before)
	})
}
