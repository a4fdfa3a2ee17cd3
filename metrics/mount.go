package metrics

import "time"

// A Mount is what a mount counts, at one moment.
type Mount struct {
	Generation, Files, Bytes, Open, Pending, Staged float64
	Trusted                                         bool // the bus is: nothing that is announced is missed
	Degraded                                        bool

	Uploads, UploadedBytes, Conflicts, Failed float64
	Heard, Asked, Invalidations, Reconciled   float64

	Hits, Misses                          float64 // of the cache
	DiskBytes, MemoryBytes, StoreBytes    float64 // that reads took from there
	CacheBytes, Evicted, EvictedBytes     float64
	Prefetched, PrefetchesWasted, Corrupt float64
}

// MountOperation reports one request that a mount answered.
func (s *Set) MountOperation(op string, took time.Duration) {
	s.mountSeconds.WithLabelValues(among(mountOps, op)).Observe(took.Seconds())
}

// AddMount exports what take returns, for the named storage.
func (s *Set) AddMount(storage string, take func() Mount) (remove func()) {
	return addTable(s, &s.mounts, storage, take, mountColumns)
}

var mountColumns = []column[Mount]{
	now("mount_generation", "Newest generation of the source that the tree shows.", func(t Mount) float64 { return t.Generation }).ofLeast(),
	now("mount_degraded", "Above 0 while a mount cannot do its work: the store or the disk refuses.", func(t Mount) float64 { return flag(t.Degraded) }),
	now("mount_files", "Files in the tree.", func(t Mount) float64 { return t.Files }),
	now("mount_bytes", "Bytes of the files in the tree.", func(t Mount) float64 { return t.Bytes }),
	now("mount_open_handles", "Files and directories that programs have open.", func(t Mount) float64 { return t.Open }),
	now("mount_staged_bytes", "Bytes of files that were written here and are open, or not in the bucket yet.", func(t Mount) float64 { return t.Staged }),
	now("mount_pending_changes", "Changes made here that are not in the bucket yet.", func(t Mount) float64 { return t.Pending }),
	now("mount_bus_trusted", "1 while nothing that is announced is missed; opens ask the store else.", func(t Mount) float64 { return flag(t.Trusted) }).ofLeast(),
	total("mount_uploads_total", "Contents brought to the bucket.", func(t Mount) float64 { return t.Uploads }),
	total("mount_uploaded_bytes_total", "Bytes of the contents brought to the bucket.", func(t Mount) float64 { return t.UploadedBytes }),
	total("mount_conflicts_total", "Writes that came second and were kept beside.", func(t Mount) float64 { return t.Conflicts }),
	total("mount_failed_changes_total", "Changes that the store refused.", func(t Mount) float64 { return t.Failed }),
	total("mount_heard_changes_total", "Changes of others that were heard of.", func(t Mount) float64 { return t.Heard }),
	total("mount_asked_files_total", "Files that the store was asked about.", func(t Mount) float64 { return t.Asked }),
	total("mount_invalidations_total", "Entries that the kernel was told to forget.", func(t Mount) float64 { return t.Invalidations }),
	total("mount_reconciliations_total", "Comparisons with a listing of the bucket, for what strangers wrote.", func(t Mount) float64 { return t.Reconciled }),
	total("mount_cache_hits_total", "Reads that needed no request of the store.", func(t Mount) float64 { return t.Hits }),
	total("mount_cache_misses_total", "Reads that needed a request of the store.", func(t Mount) float64 { return t.Misses }),
	total("mount_read_disk_bytes_total", "Bytes that came from the cache on disk.", func(t Mount) float64 { return t.DiskBytes }),
	total("mount_read_memory_bytes_total", "Bytes that came from memory.", func(t Mount) float64 { return t.MemoryBytes }),
	total("mount_read_store_bytes_total", "Bytes that the store sent.", func(t Mount) float64 { return t.StoreBytes }),
	now("mount_cache_bytes", "Bytes on the cache's disk, of all processes that share it, about.", func(t Mount) float64 { return t.CacheBytes }).ofLeast(),
	total("mount_cache_evicted_contents_total", "Contents deleted from the cache for want of room.", func(t Mount) float64 { return t.Evicted }),
	total("mount_cache_evicted_bytes_total", "Bytes deleted from the cache for want of room.", func(t Mount) float64 { return t.EvictedBytes }),
	total("mount_prefetched_contents_total", "Small contents fetched before anybody asked.", func(t Mount) float64 { return t.Prefetched }),
	total("mount_prefetches_wasted_total", "Prefetched contents that left memory before anybody asked.", func(t Mount) float64 { return t.PrefetchesWasted }),
	total("mount_corrupt_contents_total", "Contents and parts that had another hash than they should.", func(t Mount) float64 { return t.Corrupt }),
}
