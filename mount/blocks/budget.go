package blocks

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A budget is the memory for what is in flight, of all readers. What is fetched
// ahead of any reader may have three quarters of it, so that who waits for
// bytes need not wait for those who may want some later.
type budget struct {
	size  int64 // bytes
	all   *semaphore.Weighted
	ahead *semaphore.Weighted
}

func newBudget(size int64) *budget {
	return &budget{size: size, all: semaphore.NewWeighted(size), ahead: semaphore.NewWeighted(size * 3 / 4)}
}

// try takes n bytes if they are there now.
func (b *budget) try(n int64, ahead bool) bool {
	n = b.clip(n)
	if ahead && !b.ahead.TryAcquire(n) {
		return false
	}
	if b.all.TryAcquire(n) {
		return true
	}
	if ahead {
		b.ahead.Release(n)
	}
	return false
}

// wait takes n bytes when they are there, first come, first served.
func (b *budget) wait(ctx context.Context, n int64, ahead bool) error {
	n = b.clip(n)
	if !ahead {
		return b.all.Acquire(ctx, n)
	}
	if err := b.ahead.Acquire(ctx, n); err != nil {
		return err
	}
	err := b.all.Acquire(ctx, n)
	if err != nil {
		b.ahead.Release(n)
	}
	return err
}

// free gives back what try or wait took.
func (b *budget) free(n int64, ahead bool) {
	n = b.clip(n)
	b.all.Release(n)
	if ahead {
		b.ahead.Release(n)
	}
}

// clip lets what is larger than the budget pass alone.
func (b *budget) clip(n int64) int64 { return min(n, b.size*3/4) }

// buffers are kept by size: a power of two of pieces. Making 8 MiB anew clears
// them first, for every GET.
var buffers [7]sync.Pool

func class(n int) int { return max(0, bits.Len(uint(n-1))-bits.Len(grain-1)) }

// buffer returns n bytes of anything.
func buffer(n int) []byte {
	c := class(n)
	if c >= len(buffers) {
		return make([]byte, n)
	}
	if b, ok := buffers[c].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, grain<<c)
}

// recycle takes back what buffer returned and nobody looks at any more.
func recycle(b []byte) {
	b = b[:cap(b)]
	if c := class(len(b)); c < len(buffers) && len(b) == grain<<c {
		buffers[c].Put(&b)
	}
}
