package blocks

import "sync/atomic"

// Stats is what a Cache did since it was opened. All but DiskUse only grow.
type Stats struct {
	Hits, Misses int64 // reads that needed no request of the store, and those that did

	FromDisk, FromMemory, FromStore int64 // bytes; those of the store are what it sent
	Requests                        int64 // GETs

	Prefetched int64 // small contents that were fetched before anybody asked
	Wasted     int64 // of those, how many left memory before anybody asked; they may still be on disk
	Corrupt    int64 // contents and parts that had another hash

	Evicted      int64 // contents that were deleted from disk for want of room
	EvictedBytes int64
	DiskUse      int64 // bytes on disk now, of all processes that share the directory, about
}

type counters struct {
	hits, misses          atomic.Int64
	disk, memory, fetched atomic.Int64
	requests              atomic.Int64
	prefetched, wasted    atomic.Int64
	corrupt               atomic.Int64
	evicted, evictedBytes atomic.Int64
}

func (c *counters) count(hit bool) {
	if hit {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
}

// Stats returns the counts up to now.
func (c *Cache) Stats() Stats {
	s := &c.stats
	return Stats{
		Hits: s.hits.Load(), Misses: s.misses.Load(),
		FromDisk: s.disk.Load(), FromMemory: s.memory.Load(), FromStore: s.fetched.Load(), Requests: s.requests.Load(),
		Prefetched: s.prefetched.Load(), Wasted: s.wasted.Load(), Corrupt: s.corrupt.Load(),
		Evicted: s.evicted.Load(), EvictedBytes: s.evictedBytes.Load(), DiskUse: c.space.used.Load() - c.space.coming.Load(),
	}
}
