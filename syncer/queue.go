package syncer

import (
	"sync"
	"sync/atomic"

	"github.com/skyagent/skyagent/manifest"
)

// A job is one file that must be read, and sent when it changed.
type job struct {
	path  manifest.Path
	stat  manifest.Stat
	old   manifest.File // what is committed at the path
	known bool          // there is something committed at the path
}

// large reports whether the job may take long: it must not delay the commit
// of small files that are finished.
func (j job) large() bool { return j.stat.Size >= manifest.PartThreshold }

// A queue holds jobs for the uploaders, large and small apart, so that a
// saved script never waits behind a data set. It has no bound of its own: it
// holds paths that the scan or the watcher holds anyway.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	small  []job
	big    []job
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.more.L = &q.mu
	return q
}

func (q *queue) push(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.large() {
		q.big = append(q.big, j)
	} else {
		q.small = append(q.small, j)
	}
	q.more.Broadcast()
}

// pop returns the next job, of those that are large when big, and false when
// the queue was closed.
func (q *queue) pop(big bool) (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := &q.small
	if big {
		list = &q.big
	}
	for len(*list) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return job{}, false
	}
	j := (*list)[0]
	*list = (*list)[1:]
	return j, true
}

// close makes every pop return, and returns the jobs that nobody took.
func (q *queue) close() []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := append(q.small, q.big...)
	q.small, q.big, q.closed = nil, nil, true
	q.more.Broadcast()
	return left
}

// progress is Progress as the workers count it.
type progress struct {
	files, bytes, doneFiles, doneBytes atomic.Int64
}

func (p *progress) found(size int64) {
	p.files.Add(1)
	p.bytes.Add(size)
}

func (p *progress) finished(size int64) {
	p.doneFiles.Add(1)
	p.doneBytes.Add(size)
}

func (p *progress) read() Progress {
	return Progress{
		Files: p.files.Load(), Bytes: p.bytes.Load(),
		DoneFiles: p.doneFiles.Load(), DoneBytes: p.doneBytes.Load(),
	}
}
