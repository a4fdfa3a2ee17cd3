package file

import (
	"os"
	"sync"
)

// crowd is how many files are worth one fsync each: a syncfs waits for
// whatever other programs have written to the file system, too.
const crowd = 4

// syncing, when set, is told of every group before it is made durable. Only
// tests set it: no power cut can be had in one.
var syncing func([]*os.File)

// A committer makes files durable for many writers at once: while one group is
// being synced, those who come gather in the next.
type committer struct {
	syncing sync.Mutex // held by the group that is being synced

	mu   sync.Mutex // guards next and the group it points to
	next *group     // gathers; nil when nobody waits
}

type group struct {
	files []*os.File
	done  chan struct{} // closed by the leader when err is set
	err   error
}

// sync returns when files are durable. The first of a group leads it; an error
// is every member's, since syncfs does not say whose it was.
func (c *committer) sync(files ...*os.File) error {
	if len(files) == 0 {
		return nil
	}
	c.mu.Lock()
	g := c.next
	lead := g == nil
	if lead {
		g = &group{done: make(chan struct{})}
		c.next = g
	}
	g.files = append(g.files, files...)
	c.mu.Unlock()
	if lead {
		c.lead(g)
	}
	<-g.done
	return g.err
}

func (c *committer) lead(g *group) {
	c.syncing.Lock() // others join g while the group before it is synced
	defer c.syncing.Unlock()
	c.mu.Lock()
	c.next = nil // who comes now may have written too late for this sync
	c.mu.Unlock()
	if syncing != nil {
		syncing(g.files)
	}
	g.err = syncAll(g.files)
	close(g.done)
}

// syncEach syncs one after the other.
func syncEach(files []*os.File) error {
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}
