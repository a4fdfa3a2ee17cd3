package mount

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

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
