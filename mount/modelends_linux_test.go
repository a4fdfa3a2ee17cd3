package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// kill ends the mount as kill -9 does, and begins its next life. What had reached
// the store is done there if do says so. early is before the journal said that the
// last changes of names are done.
func (w *modelWorld) kill(do, early bool) {
	w.store.die(do)
	state := filepath.Join(w.dir, fmt.Sprint("state-", w.lives))
	if err := os.CopyFS(state, os.DirFS(w.m.opt.State)); err != nil {
		w.blame("%v", err)
	}
	if early {
		w.unsay(filepath.Join(state, "journal"))
	}
	w.shut()
	w.reborn(state)
}

// unsay takes from the end of a journal what it says to be done, but for files: the
// stage goes after that is said.
func (w *modelWorld) unsay(journal string) {
	b, err := os.ReadFile(journal)
	if err != nil {
		w.blame("%v", err)
		return
	}
	all := strings.SplitAfter(string(b), "\n")
	staged := map[uint64]bool{}
	last := 0
	for i, line := range all {
		var e entry
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		if staged[e.ID] = staged[e.ID] || e.Stage != ""; !e.Done || staged[e.ID] {
			last = i + 1
		}
	}
	if err := os.WriteFile(journal, []byte(strings.Join(all[:last], "")), 0o600); err != nil {
		w.blame("%v", err)
	}
}

// leave ends the mount as an unmount does while the store is away, and begins its
// next life.
func (w *modelWorld) leave() {
	w.harmed = true
	for w.fail(); len(w.handles) > 0; w.fail() {
		for name := range w.handles {
			w.close(name)
		}
	}
	w.stop()
	var err error
	w.call(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leave)
		defer cancel()
		err = w.m.leftOver(w.m.Flush(ctx))
	}, func() {})
	w.fail()
	var left *LeftError
	if errors.As(err, &left) {
		for _, p := range left.Lost {
			w.names[string(p)].acked = -1
		}
	}
	for _, f := range w.names {
		if left == nil || !slices.ContainsFunc(left.Lost, func(p manifest.Path) bool { return w.names[string(p)] == f }) {
			f.acked = f.last()
		}
	}
	state := w.m.opt.State
	w.store.die(false)
	w.shut()
	w.reborn(state)
}

// fail has all requests fail until no program waits for any.
func (w *modelWorld) fail() {
	for w.rest(); len(w.calls) > 0; w.rest() {
		for _, r := range w.store.waiting() {
			w.store.finish(r, failed)
		}
		time.Sleep(time.Second)
	}
}

// shut ends what a life had in memory.
func (w *modelWorld) shut() {
	w.m.cancel()
	synctest.Wait()
	w.m.shut()
	for fh := range maps.Clone(w.m.handles.list) {
		if h := w.m.handles.take(fh); h.file != nil {
			h.close()
			h.file.mu.Lock()
			if h.file.stage != nil {
				h.file.stage.close()
				h.file.stage = nil
			}
			h.file.mu.Unlock()
		}
	}
	for _, f := range w.m.dirtyFiles() {
		if f.stage != nil {
			f.stage.close()
		}
	}
	w.calls, w.handles = nil, map[string]*modelHandle{}
}

// reborn begins the next life, and holds what it has to what was promised.
func (w *modelWorld) reborn(state string) {
	w.modes = false
	for key := range w.touched {
		w.touched[key] = time.Now() // it goes on with what was under way
	}
	w.begin(state)
	for _, f := range w.files {
		f.writers, f.closing = 0, 0
	}
	w.nodes = map[*node]*modelFile{}
	files, dirs := w.seen()
	if w.alone && !maps.Equal(dirs, w.dirs) {
		w.blame("after the kill directories are %v, want %v", sortedKeys(dirs), sortedKeys(w.dirs))
	}
	names := map[string]*modelFile{}
	for p, n := range files {
		names[p] = w.survivor(p, w.contentOf(n))
		w.nodes[n] = names[p]
	}
	if w.alone {
		for p, f := range w.names {
			if names[p] == nil && f.acked >= 0 {
				w.blame("after the kill %s is gone, whose close returned for %q", p, brief(f.states[f.acked]))
			}
		}
	}
	w.names, w.dirs = names, dirs
}

// survivor returns the file that has content at p after a kill: it may be at any
// state since the last close that returned, and, when none did, at any name.
func (w *modelWorld) survivor(p, content string) *modelFile {
	if f := w.names[p]; f != nil && f.shows(content, f.acked) {
		f.states, f.closed = append(f.states, content), append(f.closed, true)
		f.acked = f.last()
		return f
	}
	for _, f := range w.files {
		if f.names[p] && f.shows(content, f.acked) && (!w.alone || w.outlived(p, f)) {
			g := newModelFile(p, content)
			g.closed[0], g.acked = true, 0
			g.over = append(g.over, f)
			f.removed = true
			w.files = append(w.files, g)
			return g
		}
	}
	f := newModelFile(p, content)
	f.closed[0] = true
	w.files = append(w.files, f)
	if w.alone {
		w.blame("after the kill %s has %q", p, brief(content))
	}
	return f
}

// outlived reports whether a kill may bring f back to p: no close of it had
// returned, or of what was renamed over it there.
func (w *modelWorld) outlived(p string, f *modelFile) bool {
	return f.acked < 0 || w.names[p] != nil && w.names[p].acked < 0 && w.names[p].replaced(f)
}

// settle lets all requests be done, and time pass, until nothing is under way.
func (w *modelWorld) settle() {
	for range 1000 {
		w.rest()
		if waiting := w.store.waiting(); len(waiting) > 0 {
			w.store.finish(waiting[0], done)
			continue
		}
		if len(w.calls) == 0 && w.m.queue.changing() == 0 && w.m.Status().Pending == 0 && w.idle() {
			return
		}
		time.Sleep(time.Second)
	}
	w.blame("still busy: %d calls, %d changes, %v", len(w.calls), w.m.queue.changing(), w.m.Status().Reason)
}

func (w *modelWorld) idle() bool {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	return len(w.m.attrs) == 0
}

// wait settles a request that waits for what is under way.
func (w *modelWorld) wait(what string, request func() error) {
	var err error
	w.call(func() { err = request() }, func() {
		if err != nil {
			w.blame("%s: %v", what, err)
		}
	})
	w.settle()
}

// finish heals the store, closes what is open, flushes, and looks whether the
// bucket has what it must, and the mount nothing left.
func (w *modelWorld) finish() {
	w.settle()
	for name := range w.handles {
		w.close(name)
	}
	w.settle()
	_ = w.m.notGivenUp() // what others took away cannot be moved
	w.wait("flush", func() error { return w.m.Flush(context.Background()) })
	if !w.alone {
		w.wait("refresh", func() error { return w.m.Refresh(context.Background(), "") })
	}
	if len(w.faults) > 0 {
		return
	}
	w.judgeEnd()
	w.judgeBucket()
	w.judgePeer()
	w.judgeLeft()
	w.shut()
	w.modes = false // a listing does not tell
	w.begin(w.m.opt.State)
	w.nodes = map[*node]*modelFile{}
	w.rest()
	w.settle()
	w.judgeBucket()
	w.judgeLeft()
}

// judgeBucket wants the bucket to have what the mount shows, and nothing else.
func (w *modelWorld) judgeBucket() {
	files, dirs := w.seen()
	for p, n := range files {
		b, _ := w.bucket.Bytes(p)
		if info, err := w.bucket.Head(context.Background(), p); err != nil || string(b) != w.contentOf(n) {
			w.blame("the bucket has %q at %s, the mount %q", brief(string(b)), p, brief(w.contentOf(n)))
		} else if f := fileOf("", info); uint16(f.Mode.Perm()) != n.perm && info.Meta[manifest.MetaMode] != "" && w.modes {
			w.blame("%s has mode %o in the bucket, and %o in the mount", p, f.Mode.Perm(), n.perm)
		}
	}
	for _, key := range w.bucket.Keys() {
		name, dir := strings.CutSuffix(key, "/")
		if dir && !dirs[name] || !dir && files[key] == nil {
			w.blame("the bucket has %s, the mount not", key)
		}
	}
}

// judgePeer wants all to be announced: after a kill, others find the rest by listing.
func (w *modelWorld) judgePeer() {
	if !w.kind.bus || !w.alone || w.lives > 1 {
		return
	}
	files, _ := w.seen()
	for p, n := range files {
		if w.peer[p] != n.rev {
			w.blame("others were told of %s at %q, and the bucket has %q", p, w.peer[p], n.rev)
		}
	}
	for p := range w.peer {
		if files[p] == nil {
			w.blame("others were not told that %s is gone", p)
		}
	}
}

// judgeLeft wants nothing to be kept of what is done.
func (w *modelWorld) judgeLeft() {
	if left := w.m.journal.left(); len(left) > 0 {
		w.blame("left in the journal: %+v", left)
	}
	if stages, err := os.ReadDir(w.m.stages()); err != nil || len(stages) > 0 {
		w.blame("left in the stage: %v, %v", stages, err)
	}
	q := w.m.queue
	if n := len(q.tail) + len(q.below) + len(q.open) + len(q.changes); n > 0 {
		w.blame("%d entries left in the queue", n)
	}
	if len(w.m.doubts) > 0 {
		w.blame("doubts left: %v", w.m.doubts)
	}
	if n := w.m.handles.len(); n > 0 {
		w.blame("%d handles left", n)
	}
	if n := w.m.count.staged.Load(); n != 0 {
		w.blame("%d bytes are staged", n)
	}
	w.m.tree.root.below(func(n *node) {
		if n.file != nil {
			w.blame("%s has a file still", n.path())
		}
		if n.more != nil && n.more.key != "" {
			w.blame("%s lies at %s", n.path(), n.more.key)
		}
	})
}

// end frees what the world has.
func (w *modelWorld) end() {
	w.store.die(false)
	w.shut()
	w.cache.Close()
}
