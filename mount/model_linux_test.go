package mount

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/mount/blocks"
	"github.com/skyagent/skyagent/objstore"
)

// A modelWorld is a bucket, a mount of it, life after life, and the programs that
// use it, as a script has them act. No kernel is asked: the programs' calls are
// the requests that the kernel would make of them.
type modelWorld struct {
	*judge
	kind   modelKind
	dir    string
	log    *slog.Logger
	cache  *blocks.Cache
	store  *heldStore
	bus    *modelBus
	m      *FS
	r      *raw
	stop   context.CancelFunc
	lives  int
	tags   int
	pids   atomic.Uint32
	harmed bool // the store has failed
	modes  bool // the mount knows the mode of every file

	alone   bool                    // nobody else has written
	peer    map[string]objstore.Rev // what another mount has, that heard all that was announced
	nodes   map[*node]*modelFile
	names   map[string]*modelFile // what stands at each path, as programs see it
	dirs    map[string]bool
	handles map[string]*modelHandle
	calls   []*modelCall
}

// A modelKind is how the mount is set up.
type modelKind struct {
	writeBack, bus bool
	forgetful      bool // the kernel forgets what nobody has open
	bare           bool // listings tell no metadata
}

type modelHandle struct {
	fh, id uint64
	path   string
	file   *modelFile
	writes bool
	busy   bool
}

// A modelCall is a request that may wait for the store.
type modelCall struct {
	done atomic.Bool
	end  func()
}

// A modelBus brings what others say, as late as it may.
type modelBus struct {
	mu   sync.Mutex // guards what follows
	to   *FS
	news []News
	said []manifest.Write
}

// Announce keeps what is said for listen.
func (b *modelBus) Announce(_ context.Context, changes []manifest.Write) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range changes {
		if !w.IsDir() && !w.Mode.IsDir() {
			b.said = append(b.said, w)
		}
	}
	return nil
}

func (b *modelBus) Alive() bool              { return true }
func (b *modelBus) Changed() <-chan struct{} { return nil }
func (b *modelBus) Fence(context.Context) error {
	for b.hear() {
	}
	return nil
}

func (b *modelBus) say(w manifest.Write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.news = append(b.news, News{Writes: &manifest.Writes{Changes: []manifest.Write{w}}})
}

// hear brings one piece of news, and reports whether there was any.
func (b *modelBus) hear() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.news) == 0 {
		return false
	}
	b.to.Hear(b.news[0])
	b.news = b.news[1:]
	return true
}

func newModelWorld(t *testing.T, kind modelKind, dir string, log *slog.Logger) *modelWorld {
	j := newJudge()
	j.bucket.Limits.ListMeta = !kind.bare
	cache, err := blocks.Open(blocks.Options{Dir: filepath.Join(dir, "cache"), Store: j.bucket, Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	w := &modelWorld{judge: j, kind: kind, dir: dir, log: log, cache: cache, alone: true, modes: true, peer: map[string]objstore.Rev{},
		nodes: map[*node]*modelFile{}, names: map[string]*modelFile{}, dirs: map[string]bool{}, handles: map[string]*modelHandle{}}
	w.pids.Store(1 << 30) // no process has these
	w.begin(filepath.Join(dir, "state-0"))
	return w
}

// begin begins a life of the mount.
func (w *modelWorld) begin(state string) {
	w.lives++
	w.store = &heldStore{Store: w.bucket, judge: w.judge, log: w.log, free: true}
	w.bus = &modelBus{}
	opt := Options{Store: w.store, Cache: w.cache, State: state, Life: fmt.Sprint("life", w.lives), WriteBack: w.kind.writeBack,
		Reconcile: 1000 * time.Hour, Log: w.log, Sources: func(context.Context) ([]string, error) { return nil, nil }}
	if w.kind.bus {
		opt.Bus = w.bus
	}
	w.m = New(opt)
	w.bus.to, w.r = w.m, &raw{m: w.m}
	if err := w.m.prepare(); err != nil {
		w.blame("prepare: %v", err)
		return
	}
	if err := w.m.load(w.m.ctx); err != nil {
		w.blame("load: %v", err)
		return
	}
	w.m.early.release(w.m.hear)
	w.m.resume()
	w.store.setFree(false)
	services, stop := context.WithCancel(w.m.ctx)
	w.stop = stop
	w.m.group.Go(func() { w.m.kernel.run(services, noKernel{}, func(int) {}) })
	w.m.group.Go(func() { w.m.follow(services) })
	if w.kind.bus {
		time.Sleep(3 * noteAfter) // until it trusts the bus
	}
	synctest.Wait()
}

// noKernel is a kernel that keeps nothing.
type noKernel struct{}

func (noKernel) forgetName(uint64, string) {}
func (noKernel) forgetAttr(uint64)         {}
func (noKernel) forgetContent(uint64)      {}

func (w *modelWorld) header(id uint64) fuse.InHeader {
	return fuse.InHeader{NodeId: id, Caller: fuse.Caller{Pid: w.pids.Add(1)}}
}

// lookup returns what the kernel calls the file at p; 0 when there is none.
func (w *modelWorld) lookup(h fuse.InHeader, p string) uint64 {
	id := uint64(rootID)
	for p != "" && id != 0 {
		name, rest, _ := strings.Cut(p, "/")
		h.NodeId, p = id, rest
		var out fuse.EntryOut
		if w.r.Lookup(nil, &h, name, &out) != fuse.OK {
			return 0
		}
		id = out.NodeId
	}
	return id
}

// into returns the directory that p is in, and its name there.
func (w *modelWorld) into(p string) (fuse.InHeader, string, bool) {
	dir, name := path.Split(p)
	h := w.header(0)
	w.lookup(h, p) // which may bring news
	h.NodeId = w.lookup(h, strings.TrimSuffix(dir, "/"))
	w.compare()
	return h, name, h.NodeId != 0
}

// call has request run, and end when it is done.
func (w *modelWorld) call(request func(), end func()) {
	c := &modelCall{end: end}
	w.calls = append(w.calls, c)
	go func() {
		request()
		c.done.Store(true)
	}()
}

// rest waits until all do nothing but wait for the script, and takes the answers.
func (w *modelWorld) rest() {
	for again := true; again; {
		synctest.Wait()
		again = false
		for _, c := range slices.Clone(w.calls) {
			if c.done.Load() {
				w.calls = slices.DeleteFunc(w.calls, func(o *modelCall) bool { return o == c })
				c.end()
				again = true
			}
		}
	}
	w.listen()
	w.compare()
	w.judgeStates()
	if w.kind.forgetful && len(w.calls) == 0 {
		w.forget()
	}
}

// listen judges what the mount has announced, and does it where another mount would.
func (w *modelWorld) listen() {
	w.bus.mu.Lock()
	defer w.bus.mu.Unlock()
	for _, c := range w.bus.said {
		p := string(c.Path)
		if c.Op == manifest.Delete {
			delete(w.peer, p)
			continue
		}
		w.peer[p] = objstore.Rev(c.Rev)
		switch v := w.versions[objstore.Rev(c.Rev)]; {
		case v == nil || v.key != p:
			w.blame("%s was announced at %s, where it never was", p, c.Rev)
		case c.Size != int64(len(v.content)) || !c.Hash.IsZero() && c.Hash != manifest.Sum([]byte(v.content)):
			w.blame("%s was announced with %d bytes, and has %q", p, c.Size, brief(v.content))
		}
	}
	w.bus.said = nil
}

// forget has the kernel forget what nobody has open.
func (w *modelWorld) forget() {
	open := map[uint64]bool{}
	for _, h := range w.handles {
		open[h.id] = true
	}
	w.m.tree.mu.Lock()
	defer w.m.tree.mu.Unlock()
	for id, n := range maps.Clone(w.m.tree.known) {
		if !open[id] {
			w.m.tree.forget(id, n.lookups)
		}
	}
}

// unreadable begins the content of a file of which others took a part away.
const unreadable = "unreadable: "

// contentOf returns what a reader of n sees.
func (w *modelWorld) contentOf(n *node) string {
	if f := n.file; f != nil {
		f.mu.RLock()
		defer f.mu.RUnlock()
		if f.stage != nil {
			b := make([]byte, f.stage.size)
			if _, err := f.stage.readAt(context.Background(), b, 0); err != nil && err != io.EOF {
				return fmt.Sprint(unreadable, err)
			}
			return string(b)
		}
	}
	return w.versionAt(n)
}

// versionAt returns what the bucket has of n, as the mount knows it.
func (w *modelWorld) versionAt(n *node) string {
	if v := w.versions[n.rev]; v != nil {
		return v.content
	}
	return ""
}

// fileOf returns the file that n is. What nobody here made is others', or what the
// last life left.
func (w *modelWorld) fileOf(n *node, p string) *modelFile {
	f, content := w.nodes[n], w.contentOf(n)
	switch {
	case f != nil && (f.now() == content || !w.alone && strings.HasPrefix(content, unreadable)):
	case f == nil && w.names[p] != nil && w.names[p].now() == content && !w.names[p].removed:
		f = w.names[p] // the same, of another node
	case !w.alone && (n.file == nil || !n.file.dirty.Load()):
		f = newModelFile(p, content)
		f.closed[0], f.theirs = true, true
		w.files = append(w.files, f)
	case f != nil:
		w.blame("%s has %q, want %q", p, brief(content), brief(f.now()))
		f.becomes(content)
	default:
		w.blame("%s has %q, of nobody", p, brief(content))
		f = newModelFile(p, content)
	}
	w.nodes[n] = f
	f.names[p] = true
	return f
}

// compare holds the tree to what programs know, or learns from it what others did.
func (w *modelWorld) compare() {
	files, dirs := w.seen()
	if w.alone {
		for p := range w.names {
			if files[p] == nil {
				w.blame("%s is gone", p)
			}
		}
		for p := range files {
			if w.names[p] == nil {
				w.blame("%s is there", p)
			}
		}
		if !maps.Equal(dirs, w.dirs) {
			w.blame("directories are %v, want %v", sortedKeys(dirs), sortedKeys(w.dirs))
		}
	}
	names := map[string]*modelFile{}
	for p, n := range files {
		names[p] = w.fileOf(n, p)
	}
	w.names, w.dirs = names, dirs
}

// judgeStates holds every file to the states that are legal while nothing goes on
// in it.
func (w *modelWorld) judgeStates() {
	files, _ := w.seen()
	for p, n := range files {
		if f := n.file; f != nil && len(f.upload) == 0 && !f.lost {
			w.judgeState(p, f)
		}
	}
}

func (w *modelWorld) judgeState(p string, f *file) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	dirty, kept := f.dirty.Load(), f.kept.Load() > 0
	wrong := ""
	switch {
	case !dirty && kept:
		wrong = "clean, and in the journal"
	case !dirty && f.stray != "":
		wrong = "clean, and maybe at " + f.stray
	case !dirty && f.cond != (objstore.Cond{If: f.former.Rev}):
		wrong = fmt.Sprintf("clean, and to replace %v instead of %s", f.cond, f.former.Rev)
	case !dirty && f.stage != nil && f.stage.size != f.former.Size:
		wrong = "clean, and not what the bucket has"
	case f.cond.Absent && f.cond.If != "":
		wrong = "to be new, and to replace something"
	case kept != (f.stood != ""):
		wrong = "promised, and without a stage, or the other way round"
	case kept && f.gen == f.asked && f.stage.name != f.stood:
		wrong = "promised, and another stage is named"
	case kept && f.asked > f.gen:
		wrong = "promised before it was written"
	case f.writers > f.handles || f.writers < 0:
		wrong = fmt.Sprintf("open %d times, and %d for writing", f.handles, f.writers)
	}
	if wrong != "" {
		w.blame("%s is %s", p, wrong)
	}
	if f.stood != "" {
		if _, err := os.Stat(filepath.Join(w.m.stages(), f.stood)); err != nil {
			w.blame("%s is promised: %v", p, err)
		}
	}
}

// seen returns the files and directories that the tree has.
func (w *modelWorld) seen() (files map[string]*node, dirs map[string]bool) {
	files, dirs = map[string]*node{}, map[string]bool{}
	w.m.tree.mu.RLock()
	defer w.m.tree.mu.RUnlock()
	w.m.tree.root.below(func(n *node) {
		if n.is(isDir) {
			dirs[string(n.path())] = true
		} else {
			files[string(n.path())] = n
		}
	})
	return files, dirs
}

// others has somebody else change the bucket, with a word over the bus or without.
func (w *modelWorld) others(what, key string, told bool) {
	w.alone = false
	was := w.rev(key)
	if v := w.versions[was]; v != nil { // whoever has it open can go on with it
		r := w.cache.Reader(blocks.Object{Key: key, Rev: was, Size: int64(len(v.content))})
		if _, err := r.ReadAt(context.Background(), make([]byte, len(v.content)), 0); err != nil && err != io.EOF {
			w.blame("%v", err)
		}
		r.Close()
	}
	c := manifest.Change{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(key)}}
	switch {
	case what == "put":
		w.tags++
		content := fmt.Sprintf("[%d]", w.tags)
		f := manifest.File{Path: manifest.Path(key), Mode: 0o644, Size: int64(len(content)), Hash: manifest.Sum([]byte(content)), MTime: time.Now().UnixNano()}
		info, err := w.bucket.Put(context.Background(), key, strings.NewReader(content), f.Size, objstore.PutOptions{Meta: f.Meta("other", "")})
		if err != nil {
			w.blame("%v", err)
		}
		f.Rev = string(info.Rev)
		w.become(key, was, info.Rev, &version{key: key, content: content, theirs: true}, theirs)
		c = manifest.Change{Op: manifest.Put, File: f}
	case was == "":
		return
	default:
		w.become(key, was, "", nil, theirs)
		if err := w.bucket.Delete(context.Background(), key); err != nil {
			w.blame("%v", err)
		}
	}
	if told {
		w.bus.say(manifest.Write{Change: c, Prev: string(was)})
	}
}

// answer lets the first request of its kind end.
func (w *modelWorld) answer(op, key, how string) {
	for _, r := range w.store.waiting() {
		if string(r.op) == op && r.key == key {
			w.harmed = w.harmed || how != done
			w.store.finish(r, how)
			return
		}
	}
}
