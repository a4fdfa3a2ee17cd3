package mount

import (
	"context"
	"encoding/json"
	"errors"
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
	"syscall"
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

// opened takes a handle that a program got at p.
func (w *modelWorld) opened(name, p string, id, fh uint64, writes, empty bool) {
	n := w.m.handles.get(fh).file.n
	h := &modelHandle{fh: fh, id: id, path: p, writes: writes}
	if h.file = w.nodes[n]; h.file == nil {
		if empty { // made, or another version that the mount found on the way
			h.file = newModelFile(p, w.versionAt(n))
			w.files = append(w.files, h.file)
			w.nodes[n] = h.file
		} else {
			h.file = w.fileOf(n, p)
		}
	}
	w.handles[name] = h
	if writes {
		h.file.writers++
	}
	if empty && h.file.now() != "" {
		h.file.becomes("")
	}
}

// open opens p: for reading (r), for writing (w), emptied (t), made where it is not
// there (c), made and nothing else (x).
func (w *modelWorld) open(name, p, how string) {
	if w.handles[name] != nil {
		return
	}
	if how == "c" || how == "x" {
		if done := w.create(name, p); done || how == "x" {
			return
		}
	}
	flags := map[string]uint32{"r": syscall.O_RDONLY, "t": syscall.O_RDWR | syscall.O_TRUNC}
	in := fuse.OpenIn{InHeader: w.header(0), Flags: syscall.O_RDWR}
	if f, ok := flags[how]; ok {
		in.Flags = f
	}
	var out fuse.OpenOut
	var code fuse.Status
	w.call(func() {
		for range 2 { // as the kernel does
			if in.NodeId = w.lookup(in.InHeader, p); in.NodeId == 0 {
				code = fuse.ENOENT
				return
			}
			if code = w.r.Open(nil, &in, &out); code != fuse.Status(errStale) {
				return
			}
		}
	}, func() {
		if code.Ok() && w.handles[name] == nil {
			w.opened(name, p, in.NodeId, out.Fh, how != "r", how == "t")
		} else if code.Ok() {
			w.r.Release(nil, &fuse.ReleaseIn{Fh: out.Fh})
		}
		w.answered("open of "+p, code, fuse.ENOENT)
	})
}

// answered wants a call to fail only when the store does, or others write.
func (w *modelWorld) answered(what string, code fuse.Status, may ...fuse.Status) {
	if code.Ok() || slices.Contains(may, code) || w.harmed && code != fuse.Status(errStale) || !w.alone {
		return
	}
	w.blame("%s answers %v", what, code)
}

func (w *modelWorld) create(name, p string) bool {
	h, base, ok := w.into(p)
	if !ok {
		return true
	}
	var out fuse.CreateOut
	if !w.r.Create(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644, Flags: syscall.O_RDWR | syscall.O_EXCL}, base, &out).Ok() {
		return false
	}
	w.opened(name, p, out.NodeId, out.Fh, true, true)
	w.names[p] = w.handles[name].file
	return true
}

// write changes what handle name has open: from its start (put), in its middle
// (mid), at its end (add), or with more than a page (big).
func (w *modelWorld) write(name, how string) {
	h := w.handles[name]
	if h == nil || !h.writes || h.busy {
		return
	}
	w.tags++
	data, was := fmt.Sprintf("<%d>", w.tags), h.file.now()
	off := map[string]int{"add": len(was), "mid": len(was) / 2}[how]
	if how == "big" {
		data = strings.Repeat(data, 9000/len(data))
	}
	_, code := w.r.Write(nil, &fuse.WriteIn{InHeader: w.header(h.id), Fh: h.fh, Offset: uint64(off)}, []byte(data))
	w.answered("write", code)
	if code.Ok() {
		b := append([]byte(was), make([]byte, max(0, off+len(data)-len(was)))...)
		copy(b[off:], data)
		h.file.becomes(string(b))
	}
}

// cut makes the file that handle name has open n bytes long.
func (w *modelWorld) cut(name string, n int) {
	h := w.handles[name]
	if h == nil || !h.writes || h.busy {
		return
	}
	in := fuse.SetAttrIn{}
	in.InHeader, in.Valid, in.Fh, in.Size = w.header(h.id), fuse.FATTR_SIZE|fuse.FATTR_FH, h.fh, uint64(n)
	code := w.r.SetAttr(nil, &in, &fuse.AttrOut{})
	w.answered("truncate", code)
	if code.Ok() {
		h.file.becomes(cutTo(h.file.now(), n))
	}
}

func cutTo(s string, n int) string {
	return string(append([]byte(s), make([]byte, max(0, n-len(s)))...)[:n])
}

// truncate makes the file at p n bytes long, by its name.
func (w *modelWorld) truncate(p string, n int) {
	in := fuse.SetAttrIn{}
	in.InHeader = w.header(0)
	in.NodeId = w.lookup(in.InHeader, p)
	w.compare()
	if in.NodeId == 0 || w.names[p] == nil {
		return
	}
	in.Valid, in.Size = fuse.FATTR_SIZE, uint64(n)
	f := w.names[p]
	if len(f.now()) == n {
		return
	}
	others := f.writers > 0 // whose close brings it to the bucket
	f.writers++
	f.closing++
	f.becomes(cutTo(f.now(), n))
	at := f.last()
	var code fuse.Status
	w.call(func() { code = w.r.SetAttr(nil, &in, &fuse.AttrOut{}) }, func() {
		w.answered("truncate of "+p, code)
		f.writers--
		if others {
			f.closing--
			return
		}
		w.saved(f, at, code)
	})
}

// saved notes that a close of what f was in state at has returned.
func (w *modelWorld) saved(f *modelFile, at int, code fuse.Status) {
	f.closing--
	if !f.removed && (at > 0 || !f.theirs) && (code.Ok() || code == fuse.Status(errStale)) { // then it is kept beside
		f.acked = max(f.acked, at)
	}
	if code.Ok() && w.alone && !w.kind.writeBack && !f.removed && !w.kept(f, at) {
		w.blame("%q, for which a close of %v returned, is not in the bucket", brief(f.states[at]), sortedKeys(f.names))
	}
	f.settle()
}

// sync is an fsync by handle name, and close its close.
func (w *modelWorld) sync(name string) {
	w.flush(name, func(h *modelHandle) fuse.Status {
		return w.r.Fsync(nil, &fuse.FsyncIn{InHeader: w.header(h.id), Fh: h.fh})
	}, func(*modelHandle) {})
}

func (w *modelWorld) close(name string) {
	w.flush(name, func(h *modelHandle) fuse.Status {
		return w.r.Flush(nil, &fuse.FlushIn{InHeader: w.header(h.id), Fh: h.fh})
	}, func(h *modelHandle) {
		delete(w.handles, name)
		if h.writes {
			h.file.writers--
			h.file.settle()
		}
		w.r.Release(nil, &fuse.ReleaseIn{InHeader: w.header(h.id), Fh: h.fh})
	})
}

func (w *modelWorld) flush(name string, request func(*modelHandle) fuse.Status, end func(*modelHandle)) {
	h := w.handles[name]
	if h == nil || h.busy {
		return
	}
	h.busy = true
	f, at := h.file, h.file.last()
	f.closing++
	f.settle()
	var code fuse.Status
	w.call(func() { code = request(h) }, func() {
		h.busy = false
		w.answered("close of "+h.path, code)
		if h.writes {
			w.saved(f, at, code)
		} else {
			f.closing--
		}
		end(h)
	})
}

// read reads the whole of what handle name has open.
func (w *modelWorld) read(name string) {
	h := w.handles[name]
	if h == nil || h.busy {
		return
	}
	buf := make([]byte, 1<<17)
	res, code := w.r.Read(nil, &fuse.ReadIn{InHeader: w.header(h.id), Fh: h.fh, Size: uint32(len(buf))}, buf)
	if !code.Ok() {
		w.answered("read of "+h.path, code)
		return
	}
	got, _ := res.Bytes(nil)
	if want := h.file.now(); string(got) != want {
		w.blame("%s is read as %q, want %q", h.path, brief(string(got)), brief(want))
	}
}

func (w *modelWorld) rename(from, to string) {
	h, name, ok := w.into(from)
	into, target, ok2 := w.into(to)
	if !ok || !ok2 || !w.r.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: into.NodeId}, name, target).Ok() || from == to {
		return
	}
	if w.dirs[from] {
		w.moveDir(from, to)
		return
	}
	w.move(from, to)
}

// move notes that a program has renamed a file.
func (w *modelWorld) move(from, to string) {
	f, victim := w.names[from], w.names[to]
	w.doom(from, f)
	w.doom(to, victim)
	if victim != nil {
		victim.removed = true
		f.over = append(f.over, victim)
	}
	delete(w.names, from)
	w.names[to], f.names[to] = f, true
}

func (w *modelWorld) moveDir(from, to string) {
	delete(w.dirs, from)
	w.dirs[to] = true
	for p := range maps.Clone(w.names) {
		if rest, ok := strings.CutPrefix(p, from+"/"); ok {
			w.move(p, to+"/"+rest)
		}
	}
	for p := range maps.Clone(w.dirs) {
		if rest, ok := strings.CutPrefix(p, from+"/"); ok {
			delete(w.dirs, p)
			w.dirs[to+"/"+rest] = true
		}
	}
}

func (w *modelWorld) unlink(p string) {
	h, name, ok := w.into(p)
	if !ok || !w.r.Unlink(nil, &h, name).Ok() {
		return
	}
	w.doom(p, w.names[p])
	w.names[p].removed = true
	delete(w.names, p)
}

func (w *modelWorld) mkdir(p string) {
	if h, name, ok := w.into(p); ok && w.r.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name, &fuse.EntryOut{}).Ok() {
		w.dirs[p] = true
	}
}

func (w *modelWorld) rmdir(p string) {
	if h, name, ok := w.into(p); ok && w.r.Rmdir(nil, &h, name).Ok() {
		delete(w.dirs, p)
	}
}

func (w *modelWorld) chmod(p string, mode uint32) {
	in := fuse.SetAttrIn{}
	in.InHeader = w.header(0)
	if in.NodeId = w.lookup(in.InHeader, p); in.NodeId == 0 {
		return
	}
	in.Valid, in.Mode = fuse.FATTR_MODE, mode
	w.answered("chmod of "+p, w.r.SetAttr(nil, &in, &fuse.AttrOut{}))
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
