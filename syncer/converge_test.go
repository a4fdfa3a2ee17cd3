package syncer_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/syncer"
)

// bucket is what users see of it, without what was kept beside.
func (r *rig) bucket() map[string]string {
	state := map[string]string{}
	for _, key := range r.memory.Keys() {
		if b, ok := r.memory.Bytes(key); ok && !reserved(key) && !conflict(key) {
			state[key] = string(b)
		}
	}
	return state
}

// files is what the replica holds, without what was kept beside. A source keeps
// things beside in the bucket, too, and a bucket without a log is copied whole.
func (r *rig) files() map[string]string {
	state := map[string]string{}
	filepath.WalkDir(r.replica, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(r.replica, p)
		if key := filepath.ToSlash(rel); err == nil && d.Type().IsRegular() && !reserved(key) && !conflict(key) {
			state[key] = r.copied(rel)
		}
		return nil
	})
	return state
}

// Source and mounts write the same paths at once; announcements are lost,
// repeated and late; the store fails now and then; the replica is stopped at any
// moment. In the end it holds what the bucket holds, and took nothing of its own
// for somebody else's.
func TestWritesAndCommitsConverge(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &convergence{rig: newRig(t), random: rand.New(rand.NewPCG(seed, 7)), say: make(says)}
			c.m = c.mount()
			c.flaky = &shaky{Store: c.memory, rand: rand.New(rand.NewPCG(seed, 8)), rate: 0.05, left: -1}
			c.run(t)
		})
	}
}

type convergence struct {
	*rig
	m      *mounted
	flaky  *shaky // the replica's way to the bucket
	random *rand.Rand
	say    says
	said   []manifest.Writes
	f      *following
}

func (c *convergence) start() {
	c.f = c.follow(func(o *syncer.ReplicaOptions) {
		o.Mounts, o.Written, o.Store, o.Log, o.Poll = true, c.say, c.flaky, nil, 5*time.Millisecond
	})
}

func (c *convergence) stop(t *testing.T) {
	t.Helper()
	c.f.stop()
	if n := c.f.Status().Conflicts; n != 0 {
		t.Errorf("%d of its own files are kept beside", n)
	}
}

func (c *convergence) push(t *testing.T) {
	t.Helper()
	if _, err := c.sync(func(o *syncer.SourceOptions) { o.AllowMassDelete, o.Log = true, nil }); err != nil {
		t.Fatal(err)
	}
}

// step does one thing at random.
func (c *convergence) step(t *testing.T) {
	p := fmt.Sprintf("d%d/f%d", c.random.IntN(3), c.random.IntN(4))
	switch c.random.IntN(10) {
	case 0, 1, 2:
		c.said = append(c.said, c.m.put(p, fmt.Sprint("mount ", c.random.Uint64()), 0o640))
	case 3:
		if c.m.rev(p) != "" {
			c.said = append(c.said, c.m.remove(p))
		}
	case 4, 5:
		c.write(p, fmt.Sprint("source ", c.random.Uint64()))
	case 6:
		os.Remove(filepath.Join(c.source, p))
	case 7:
		c.push(t)
	case 8:
		for _, w := range c.said[max(0, len(c.said)-1-c.random.IntN(20)):] { // maybe again
			c.say <- w
		}
	case 9:
		if c.random.IntN(3) == 0 {
			c.stop(t)
			c.start()
		}
	}
}

func (c *convergence) run(t *testing.T) {
	c.start()
	for range 150 {
		c.step(t)
	}
	c.push(t)
	c.flaky.mu.Lock()
	c.flaky.rate = 0
	c.flaky.mu.Unlock()
	want := c.bucket()
	defer func() {
		if t.Failed() {
			t.Logf("the replica holds %v\nthe bucket holds %v\n%+v", c.files(), want, c.f.Status())
		}
	}()
	c.say <- manifest.Writes{}
	eventually(t, "the replica holds what the bucket holds", func() bool { return maps.Equal(c.files(), want) })
	c.stop(t)
	if st := c.copyMounts(); len(st.Failed) != 0 || !maps.Equal(c.files(), want) {
		t.Errorf("after a restart: %+v", st)
	}
}

// What a mount wrote over a source's file and then deleted stays gone: when it
// was not seen in between, and when the log is read anew.
func TestMountsDeletionHolds(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.write("b", "1")
	r.mustSync()
	r.copyMounts()
	m := r.mount()
	m.put("a", "2", 0o644)
	m.remove("a")
	want := map[string]string{"b": "1"}
	if st := r.copyMounts(); len(st.Failed) != 0 || !maps.Equal(r.files(), want) {
		t.Errorf("after the deletion: %v, %+v", r.files(), st)
	}
	os.Remove(filepath.Join(r.state, "replica.index"))
	if st := r.copyMounts(); len(st.Failed) != 0 || !maps.Equal(r.files(), want) {
		t.Errorf("without the index: %v, %+v", r.files(), st)
	}
	r.write("a", "3") // the source's later change wins
	r.mustSync()
	want["a"] = "3"
	if st := r.copyMounts(); len(st.Failed) != 0 || !maps.Equal(r.files(), want) {
		t.Errorf("after the source: %v, %+v", r.files(), st)
	}
}
