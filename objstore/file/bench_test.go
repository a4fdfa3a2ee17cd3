package file_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skyagent/skyagent/objstore/file"
)

var body4K = strings.Repeat("x", 4096)

func BenchmarkPut4KAlone(b *testing.B) {
	s := open(b, file.Config{})
	for i := range b.N {
		put(b, s, fmt.Sprintf("k/%d", i), body4K)
	}
}

// One operation is 64 Puts at once.
func BenchmarkPut4KBy64(b *testing.B) {
	s := open(b, file.Config{})
	var n atomic.Int64
	for b.Loop() {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { put(b, s, fmt.Sprintf("k/%d", n.Add(1)), body4K) })
		}
		wg.Wait()
	}
}

func BenchmarkGet4K(b *testing.B) {
	s := open(b, file.Config{})
	put(b, s, "dir/k", body4K)
	for b.Loop() {
		get(b, s, "dir/k")
	}
}

func BenchmarkList10K(b *testing.B) {
	s := open(b, file.Config{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			for j := range 100 {
				put(b, s, fmt.Sprintf("d/%d/%d", i, j), "")
			}
		})
	}
	wg.Wait()
	for b.Loop() {
		if n := len(keys(b, s, "", "")); n != 10_000 {
			b.Fatal(n)
		}
	}
}
