package blocks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// What reads fail with, beside the store's own errors.
var (
	// ErrGone says that the store no longer has the revision.
	ErrGone = errors.New("revision is no longer in the store")
	// ErrCorrupt says that the store twice sent bytes that have another hash
	// or size, or that a Reader may have given out such bytes once.
	ErrCorrupt = errors.New("content is not what its hash says")
)

// Options say what to cache, where, and how much.
type Options struct {
	Dir      string // made if it is not there; may be shared by processes and by mounts
	Store    objstore.Store
	Bucket   string        // tells this Store's keys from those of others in Dir
	MaxBytes int64         // on disk; 0 means 10 GiB
	Memory   int64         // bytes, of all readers together; 0 means 256 MiB, the least is 4 MiB
	Deadline time.Duration // how long a read, or a request, waits for a next byte of the store; 0 means 30 s
	Log      *slog.Logger  // nil discards
}

// A Cache reads contents of one bucket and keeps them.
type Cache struct {
	dir      string
	store    objstore.Store
	bucket   string
	deadline time.Duration
	log      *slog.Logger
	largest  int64 // bytes of a GET
	budget   *budget
	memory   *memory
	space    *space
	packs    *packs
	stats    counters
	wishes   wishes

	descriptors descriptors
	streaming   atomic.Int64 // Readers that have something on its way

	ctx    context.Context // of all goroutines: ended by Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex // guards what follows, and content.refs
	closed   bool
	contents map[id]*content
	loads    map[id]*load
}

const (
	defaultMaxBytes = 10 << 30
	defaultMemory   = 256 << 20
	leastMemory     = 4 << 20
	defaultDeadline = 30 * time.Second
)

func orDefault[T int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Open returns the cache in o.Dir, with what is there from before.
func Open(o Options) (*Cache, error) {
	memory := max(leastMemory, orDefault(o.Memory, defaultMemory))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		dir: filepath.Join(o.Dir, "blocks-"+version), store: o.Store, bucket: o.Bucket, log: o.Log,
		deadline: orDefault(o.Deadline, defaultDeadline),
		budget:   newBudget(memory / 4 * 3),
		contents: map[id]*content{}, loads: map[id]*load{},
	}
	c.memory = newMemory(memory/4, &c.stats)
	c.largest = min(block, max(grain, down(c.budget.size/4, grain)))
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.open(orDefault(o.MaxBytes, defaultMaxBytes)); err != nil {
		return nil, fmt.Errorf("open cache %s: %w", o.Dir, err)
	}
	c.spawn(c.space.measure)
	return c, nil
}

// open opens what is on disk.
func (c *Cache) open(max int64) (err error) {
	if c.packs, err = openPacks(c.dir, max); err != nil {
		return err
	}
	c.space, err = openSpace(c, max)
	return err
}

// Close ends all that is under way, and returns when no goroutine and no
// descriptor is left. Reads fail with fs.ErrClosed from then on. Closing again
// does nothing.
func (c *Cache) Close() error {
	c.mu.Lock()
	before := c.closed
	c.closed = true
	c.mu.Unlock()
	if before {
		return nil
	}
	c.cancel()
	c.work.Wait()
	for _, content := range c.descriptors.all() {
		content.shut()
	}
	return errors.Join(c.packs.close(), c.space.close())
}

// enter and leave stand around what Close must wait for.
func (c *Cache) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("read from cache %s: %w", c.dir, fs.ErrClosed)
	}
	c.work.Add(1)
	return nil
}

func (c *Cache) leave() { c.work.Done() }

// spawn runs do in a goroutine that Close waits for. It reports whether it did:
// not after Close.
func (c *Cache) spawn(do func()) bool {
	if c.enter() != nil {
		return false
	}
	go func() {
		defer c.leave()
		do()
	}()
	return true
}

// acquire returns the content that o names, held.
func (c *Cache) acquire(i id, o Object) *content {
	p := o.proof()
	o.Hash, o.Parts = [32]byte{}, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.contents[i]
	if at == nil {
		at = &content{cache: c, id: i, object: o}
		c.contents[i] = at
	}
	at.refs++
	if p != nil {
		at.proof.CompareAndSwap(nil, p)
	}
	return at
}

// hold keeps a content that is held already.
func (c *Cache) hold(at *content) {
	c.mu.Lock()
	at.refs++
	c.mu.Unlock()
}

// drop lets go of a content. The last one forgets it.
func (c *Cache) drop(at *content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.refs--; at.refs == 0 {
		delete(c.contents, at.id)
	}
}

// window returns how far ahead a stream may be, in bytes: its share of the
// budget, but always some.
func (c *Cache) window() int64 {
	most := c.budget.size / 3
	if c.space.isBroken() {
		most = c.memory.max / 4 // it must not push out what nobody read yet
	}
	return max(min(most, c.budget.size/max(1, c.streaming.Load())), firstWindow)
}

// corrupt counts and tells what had another hash.
func (c *Cache) corrupt(o Object, off int64) {
	c.stats.corrupt.Add(1)
	c.log.Warn("content is not what its hash says", "key", o.Key, "rev", string(o.Rev), "offset", off)
}

// descriptors are the contents whose files are open. There is a bound; those
// that were not used since the last round go first.
type descriptors struct {
	mu   sync.Mutex // guards what follows
	open []*content
	hand int
}

// mostOpen contents are open at a time, of two files each.
const mostOpen = 256

// add notes that c is open, and returns which content to shut for it.
func (d *descriptors) add(c *content) (victim *content) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) >= mostOpen {
		victim = d.idle()
	}
	d.open = append(d.open, c)
	return victim
}

// idle goes round until it finds one that was not used since it came by.
func (d *descriptors) idle() *content {
	for {
		d.hand = (d.hand + 1) % len(d.open)
		if c := d.open[d.hand]; c.idle() {
			return c
		}
	}
}

func (d *descriptors) remove(c *content) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, o := range d.open {
		if o == c {
			d.open[i] = d.open[len(d.open)-1]
			d.open = d.open[:len(d.open)-1]
			return
		}
	}
}

func (d *descriptors) all() []*content {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*content(nil), d.open...)
}
