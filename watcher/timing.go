package watcher

import "time"

// Timing holds every time the watcher waits for. A zero field means the default
// named beside it.
type Timing struct {
	Quiet   time.Duration // without an event before a path may settle: 5 ms; deletions wait twice as long
	Busy    time.Duration // between looks at a file that is open for writing: 20 ms at first,
	BusyMax time.Duration // then a tenth of the time it has been dirty, at most this: 500 ms
	Longest time.Duration // a path that does not settle is handed out this often: 10 s

	Retry    time.Duration // first wait of a path given to Retry: 20 ms, doubling
	RetryMax time.Duration // to 1 s

	RescanMin time.Duration // between rescans that errors ask for: 1 s at first, doubling
	RescanMax time.Duration // to 60 s
	Interval  time.Duration // between regular rescans, give or take a tenth: 10 min
	Limited   time.Duration // the same while some directory could not be watched: 30 s
	Remote    time.Duration // the same on a network file system: 10 s

	Root time.Duration // between looks at the root's identity: 1 s
}

func (t Timing) orDefaults() Timing {
	fill := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	fill(&t.Quiet, 5*time.Millisecond)
	fill(&t.Busy, 20*time.Millisecond)
	fill(&t.BusyMax, 500*time.Millisecond)
	fill(&t.Longest, 10*time.Second)
	fill(&t.Retry, 20*time.Millisecond)
	fill(&t.RetryMax, time.Second)
	fill(&t.RescanMin, time.Second)
	fill(&t.RescanMax, time.Minute)
	fill(&t.Interval, 10*time.Minute)
	fill(&t.Limited, 30*time.Second)
	fill(&t.Remote, 10*time.Second)
	fill(&t.Root, time.Second)
	return t
}

// quietBySize is how long a file must have been quiet where nothing tells
// whether somebody still writes it: an interrupted copy of a large file pauses
// longer than an editor's save.
func quietBySize(size int64) time.Duration {
	switch {
	case size < 1<<20:
		return 200 * time.Millisecond
	case size < 64<<20:
		return 500 * time.Millisecond
	}
	return 2 * time.Second
}
