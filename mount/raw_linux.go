package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// raw answers the kernel's requests. It is thin: what they mean is FS's.
type raw struct {
	fuse.RawFileSystem // refuses the rest
	m                  *FS
}

// context ends when the process that asks is killed, or at the deadline: nobody
// waits for a store that hangs. Other signals are no reason: the kernel says
// only that there was one, and Go's runtime sends them all the time.
func (r *raw) context(cancel <-chan struct{}, pid uint32) (context.Context, func()) {
	ctx, stop := context.WithTimeout(r.m.ctx, r.m.opt.Deadline)
	return ctx, r.unlessKilled(stop, cancel, pid)
}

// unlessKilled calls stop when the process that asks is killed, and in what it
// returns, which is called at the end.
func (r *raw) unlessKilled(stop func(), cancel <-chan struct{}, pid uint32) (end func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case <-cancel:
		}
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for !killed(pid) {
			select {
			case <-done:
				return
			case <-look.C:
			}
		}
		stop()
	}()
	return func() { close(done); stop() }
}

func (r *raw) status(err error) fuse.Status { return fuse.Status(r.m.errno(err)) }

// node returns what the kernel calls id. The tree's mutex is held.
func (r *raw) node(id uint64) *node { return r.m.tree.known[id] }

func (r *raw) valid() time.Duration {
	if r.m.trust.Load() {
		return trusted
	}
	return doubtful
}

func (r *raw) attr(n *node, out *fuse.Attr) {
	out.Ino, out.Size, out.Mode, out.Nlink = n.ino, uint64(n.size), uint32(n.perm)|syscall.S_IFREG, 1
	if n.is(isDir) {
		out.Mode, out.Nlink, out.Size = uint32(n.perm)|syscall.S_IFDIR, 2, 4096
	}
	if r.m.shownLink(n) {
		out.Mode = 0o777 | syscall.S_IFLNK
	}
	if n.is(removed) {
		out.Nlink = 0
	}
	out.Blocks, out.Blksize = (out.Size+511)/512, 128<<10
	out.Uid, out.Gid = r.m.opt.UID, r.m.opt.GID
	t := time.Unix(0, n.mtime)
	out.SetTimes(&t, &t, &t)
}

// entry gives the kernel n. The tree's mutex is held for writing.
func (r *raw) entry(n *node, out *fuse.EntryOut) {
	r.m.tree.take(n)
	out.NodeId, out.Generation = n.id, 1
	r.attr(n, &out.Attr)
	out.SetEntryTimeout(r.valid())
	out.SetAttrTimeout(r.valid())
}

func (r *raw) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if len(name) > 255 {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	if r.m.replay.by(h.Pid) {
		return r.lookupAgain(h, name, out)
	}
	r.m.tree.mu.Lock()
	dir := r.node(h.NodeId)
	found := r.found(dir, name, out)
	r.m.tree.mu.Unlock()
	switch {
	case found:
		return fuse.OK
	case dir == nil:
		return fuse.ENOENT
	}
	// Somebody may just have made it. An open of a name that is there asks for
	// that itself; one that is not there gets no further than this. The kernel holds
	// the directory meanwhile: until a bus that hangs is lost.
	ctx, end := r.context(cancel, h.Pid)
	defer end()
	r.m.ascertain(ctx, dir, name)
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if !r.found(r.node(h.NodeId), name, out) {
		return fuse.ENOENT // which the kernel does not keep: it would not ask again
	}
	return fuse.OK
}

// found gives the kernel what stands at name, if there is something. The tree's
// mutex is held.
func (r *raw) found(dir *node, name string, out *fuse.EntryOut) bool {
	if dir == nil || dir.kids.get(name) == nil {
		return false
	}
	r.entry(dir.kids.get(name), out)
	return true
}

func (r *raw) Forget(id, count uint64) {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	r.m.tree.forget(id, count)
}

func (r *raw) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r.m.tree.mu.RLock()
	defer r.m.tree.mu.RUnlock()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	r.attr(n, &out.Attr)
	out.SetTimeout(r.valid())
	return fuse.OK
}

func (r *raw) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if r.m.replay.by(in.Pid) {
		return r.GetAttr(cancel, &fuse.GetAttrIn{InHeader: in.InHeader}, out)
	}
	if r.m.opt.ReadOnly {
		return fuse.EROFS
	}
	uid, hasUID := in.GetUID()
	gid, hasGID := in.GetGID()
	if hasUID && uid != r.m.opt.UID || hasGID && gid != r.m.opt.GID {
		return fuse.EPERM
	}
	if size, ok := in.GetSize(); ok {
		if err := r.resize(cancel, in, int64(size)); err != nil {
			return r.status(err)
		}
	}
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	r.setModeAndTime(n, in)
	r.attr(n, &out.Attr)
	out.SetTimeout(r.valid())
	return fuse.OK
}

func (r *raw) setModeAndTime(n *node, in *fuse.SetAttrIn) {
	var perm *uint32
	var mtime *time.Time
	if mode, ok := in.GetMode(); ok && uint16(mode&0o777) != n.perm {
		perm = &mode
	}
	if t, ok := in.GetMTime(); ok && t.UnixNano() != n.mtime {
		mtime = &t
	}
	if perm != nil || mtime != nil {
		r.m.change(n, perm, mtime)
	}
}

// resize truncates a file. Without a handle there is no close that would bring
// it to the bucket, so it goes there at once.
func (r *raw) resize(cancel <-chan struct{}, in *fuse.SetAttrIn, size int64) error {
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	if _, ok := in.GetFh(); ok {
		h := r.m.handles.get(in.Fh)
		if h == nil || h.file == nil {
			return syscall.EBADF
		}
		if h.forfeit.Load() {
			return errStale
		}
		return r.m.truncate(ctx, h.file, size)
	}
	r.m.tree.mu.Lock()
	n := r.node(in.NodeId)
	if n == nil || n.is(isDir) {
		r.m.tree.mu.Unlock()
		return syscall.ESTALE
	}
	if n.size == size {
		r.m.tree.mu.Unlock()
		return nil
	}
	f := r.m.openFile(n, true)
	others := f.writers > 1
	r.m.tree.mu.Unlock()
	err := r.m.truncate(ctx, f, size)
	if err == nil && !others {
		err = r.m.flush(ctx, f)
	}
	r.m.closed(f, true)
	if f.dirty.Load() {
		r.m.saveLater(f) // as after a close that failed, or that of the others
	}
	return err
}

func (r *raw) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// into finds the directory and what stands at name there, for a change of it.
// The tree's mutex is held.
func (r *raw) into(id uint64, name string) (dir, n *node, code fuse.Status) {
	if r.m.opt.ReadOnly {
		return nil, nil, fuse.EROFS
	}
	dir = r.node(id)
	switch {
	case dir == nil || dir.is(detached):
		return nil, nil, fuse.ENOENT
	case len(name) > 255:
		return nil, nil, fuse.Status(syscall.ENAMETOOLONG)
	case hidden(dir, name):
		return nil, nil, fuse.EPERM
	}
	return dir, dir.kids.get(name), fuse.OK
}

func (r *raw) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if r.m.replay.by(in.Pid) {
		out.Fh, out.OpenFlags = r.m.handles.add(&handle{}), fuse.FOPEN_KEEP_CACHE
		return r.made(&in.InHeader, name, &out.EntryOut)
	}
	dir, n, code := r.into(in.NodeId, name)
	switch {
	case !code.Ok():
		return code
	case n != nil && in.Flags&syscall.O_EXCL != 0:
		return fuse.Status(syscall.EEXIST)
	case n != nil && n.is(isDir):
		return fuse.Status(syscall.EISDIR)
	case n != nil:
		return fuse.Status(errStale) // it is news to the kernel, which looks, and opens or follows it
	}
	if err := r.fits(dir, name); err != nil {
		return r.status(err)
	}
	n = r.m.create(dir, name, in.Mode&^r.m.opt.Umask)
	f := r.m.openFile(n, true)
	f.begin()
	h := &handle{file: f, writes: true, owner: in.Pid}
	r.entry(n, &out.EntryOut)
	out.Fh, out.OpenFlags = r.m.handles.add(h), fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// maxKey is the longest key of any store, in bytes.
const maxKey = 1024

func (r *raw) fits(dir *node, name string) error {
	if len(dir.path())+1+len(name) > maxKey {
		return syscall.ENAMETOOLONG
	}
	if _, _, ok := splitKey(string(dir.path().Join(name))); !ok {
		return syscall.EINVAL // not UTF-8
	}
	return nil
}

func (r *raw) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	r.m.tree.mu.Lock()
	dir, n, code := r.into(in.NodeId, name)
	switch {
	case !code.Ok():
	case in.Mode&syscall.S_IFMT != syscall.S_IFREG && in.Mode&syscall.S_IFMT != 0:
		code = fuse.EPERM
	case n != nil:
		code = fuse.Status(syscall.EEXIST)
	default:
		code = r.status(r.fits(dir, name))
	}
	if !code.Ok() {
		r.m.tree.mu.Unlock()
		return code
	}
	n = r.m.create(dir, name, in.Mode&^r.m.opt.Umask)
	f := r.m.openFile(n, true)
	f.begin()
	r.entry(n, out)
	r.m.tree.mu.Unlock()
	r.m.closed(f, true)
	r.m.saveLater(f)
	return fuse.OK
}

func (r *raw) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if r.m.replay.by(in.Pid) {
		return r.made(&in.InHeader, name, out)
	}
	dir, n, code := r.into(in.NodeId, name)
	if !code.Ok() {
		return code
	}
	if n != nil {
		return fuse.Status(syscall.EEXIST)
	}
	if err := r.fits(dir, name); err != nil {
		return r.status(err)
	}
	r.entry(r.m.mkdir(dir, name, in.Mode&^r.m.opt.Umask), out)
	return fuse.OK
}

func (r *raw) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if r.m.replay.by(h.Pid) {
		return r.unmade(h, name)
	}
	_, n, code := r.into(h.NodeId, name)
	switch {
	case !code.Ok():
		return code
	case n == nil:
		return fuse.ENOENT
	case n.is(isDir):
		return fuse.Status(syscall.EISDIR)
	}
	r.m.unlink(n)
	return fuse.OK
}

func (r *raw) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if r.m.replay.by(h.Pid) {
		return r.unmade(h, name)
	}
	_, n, code := r.into(h.NodeId, name)
	switch {
	case !code.Ok():
		return code
	case n == nil:
		return fuse.ENOENT
	case !n.is(isDir):
		return fuse.Status(syscall.ENOTDIR)
	case n.kids.len() > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	r.m.rmdir(n)
	return fuse.OK
}

func (r *raw) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	_, n, code := r.into(in.NodeId, oldName)
	if !code.Ok() {
		return code
	}
	dir, victim, code := r.into(in.Newdir, newName)
	if !code.Ok() {
		return code
	}
	if n == nil {
		return fuse.ENOENT
	}
	if err := r.mayRename(n, dir, victim, newName, in.Flags); err != nil || n == victim {
		return r.status(err)
	}
	r.m.rename(n, dir, newName)
	return fuse.OK
}

const renameNoReplace = 1

func (r *raw) mayRename(n, dir, victim *node, name string, flags uint32) error {
	switch {
	case flags&^renameNoReplace != 0:
		return syscall.EINVAL
	case flags&renameNoReplace != 0 && victim != nil:
		return syscall.EEXIST
	case dir.within(n):
		return syscall.EINVAL
	case victim == nil || victim == n:
	case victim.is(isDir) && !n.is(isDir):
		return syscall.EISDIR
	case !victim.is(isDir) && n.is(isDir):
		return syscall.ENOTDIR
	case victim.kids.len() > 0:
		return syscall.ENOTEMPTY
	}
	if n.is(isDir) && n.count(maxRename+1) > maxRename {
		return syscall.EXDEV
	}
	return r.fits(dir, name)
}

func (r *raw) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

func (r *raw) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	n, f, err := r.symlink(h.NodeId, target, name)
	if err != nil {
		return r.status(err)
	}
	ctx, end := r.context(cancel, h.Pid)
	defer end()
	if err := r.m.fill(ctx, f, target); err != nil {
		return r.status(err)
	}
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	r.entry(n, out)
	return fuse.OK
}

func (r *raw) symlink(dirID uint64, target, name string) (*node, *file, error) {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	dir, n, code := r.into(dirID, name)
	switch {
	case !code.Ok():
		return nil, nil, syscall.Errno(code)
	case n != nil:
		return nil, nil, syscall.EEXIST
	case !r.m.opt.Symlinks:
		return nil, nil, syscall.EPERM
	case len(target) > maxTarget:
		return nil, nil, syscall.ENAMETOOLONG
	}
	if err := r.fits(dir, name); err != nil {
		return nil, nil, err
	}
	n, f := r.m.symlink(dir, name)
	return n, f, nil
}

func (r *raw) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	r.m.tree.mu.RLock()
	n := r.node(h.NodeId)
	shown := n != nil && r.m.shownLink(n)
	r.m.tree.mu.RUnlock()
	if !shown {
		return nil, fuse.EINVAL
	}
	ctx, end := r.context(cancel, h.Pid)
	defer end()
	target, err := r.m.target(ctx, n)
	return target, r.status(err)
}

func (r *raw) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if r.m.replay.by(in.Pid) {
		out.Fh, out.OpenFlags = r.m.handles.add(&handle{}), fuse.FOPEN_KEEP_CACHE
		return fuse.OK
	}
	writes := in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if writes && r.m.opt.ReadOnly {
		return fuse.EROFS
	}
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	r.m.tree.mu.RLock()
	n := r.node(in.NodeId)
	r.m.tree.mu.RUnlock()
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if !r.m.refused.again(in.Pid, n, in.NodeId) {
		if err := r.m.believe(ctx, n); err != nil {
			code := r.status(err)
			if code == fuse.Status(errStale) { // the kernel opens again; after other errors the program may, later
				r.m.refused.note(in.Pid, n, in.NodeId)
			}
			return code
		}
	}
	r.m.tree.mu.Lock()
	f := r.m.openFile(n, writes)
	r.m.tree.mu.Unlock()
	if in.Flags&syscall.O_TRUNC != 0 && writes {
		if err := r.m.truncate(ctx, f, 0); err != nil {
			r.m.closed(f, writes)
			return r.status(err)
		}
	}
	if !writes {
		r.m.ahead(n)
	}
	if f.version.Load() == 0 { // else the kernel may not have been told yet that its pages are another version's
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	out.Fh = r.m.handles.add(&handle{file: f, writes: writes, owner: in.Pid})
	return fuse.OK
}

func (r *raw) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return nil, fuse.EBADF
	}
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	n, err := r.m.read(ctx, h, buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	if err != nil && err != io.EOF {
		return nil, r.status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (r *raw) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return 0, fuse.EBADF
	}
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	if h.forfeit.Load() {
		return 0, fuse.Status(errStale)
	}
	write := r.m.write
	if in.Flags&syscall.O_APPEND != 0 && h.file.version.Load() > 0 {
		write = r.m.append // the kernel may have the end of another version in mind
	}
	if err := write(ctx, h.file, data, int64(in.Offset)); err != nil {
		return 0, r.status(err)
	}
	return uint32(len(data)), fuse.OK
}

func (r *raw) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Flush comes with every close of a descriptor. The one that ends the writing
// brings it to the bucket, and fails when that does.
func (r *raw) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	if r.m.replay.by(in.Pid) {
		return fuse.OK
	}
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	code := fuse.OK
	if h.writes && h.file.pending() && !r.goesOn(h, in.Pid) {
		code = r.upload(cancel, in.Pid, h)
	}
	if unlocked := r.closeLocks(cancel, in, h); code.Ok() {
		return unlocked
	}
	return code
}

// goesOn reports whether who opened h, or who closes it now, has it open still.
func (r *raw) goesOn(h *handle, pid uint32) bool {
	r.m.tree.mu.RLock()
	ino, writers := h.file.n.ino, h.file.writers
	r.m.tree.mu.RUnlock()
	if writers > 1 {
		return false // each open file says for itself when it is done
	}
	return holds(pid, ino) || pid != h.owner && holds(h.owner, ino)
}

func (r *raw) upload(cancel <-chan struct{}, pid uint32, h *handle) fuse.Status {
	ctx, stop := patient(r.m.ctx, r.m.opt.Deadline)
	defer r.unlessKilled(stop, cancel, pid)()
	err := r.m.save(ctx, h.file)
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = fmt.Errorf("no progress for %s: %w", r.m.opt.Deadline, context.DeadlineExceeded)
	}
	return r.status(err)
}

func (r *raw) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	return r.upload(cancel, in.Pid, h)
}

func (r *raw) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	if h := r.m.handles.take(in.Fh); h != nil {
		r.m.release(h)
	}
}

// Modes of fallocate(2).
const (
	keepSize  = 0x01
	punchHole = 0x02
	zeroRange = 0x10
)

// Fallocate makes a file longer, or a range of it zero. Space is not reserved:
// the store has no such notion.
func (r *raw) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	if h.forfeit.Load() {
		return fuse.Status(errStale)
	}
	ctx, done := r.context(cancel, in.Pid)
	defer done()
	grow := in.Mode&keepSize == 0
	switch in.Mode &^ keepSize {
	case 0:
	case punchHole, zeroRange:
		if err := r.m.zero(ctx, h.file, int64(in.Offset), int64(in.Length)); err != nil {
			return r.status(err)
		}
	default:
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	if !grow {
		return fuse.OK
	}
	return r.status(r.m.atLeast(ctx, h.file, int64(in.Offset+in.Length)))
}

func (r *raw) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	dir := r.node(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	out.Fh = r.m.handles.add(&handle{dir: dir})
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if r.m.trust.Load() {
		out.OpenFlags |= fuse.FOPEN_CACHE_DIR
	}
	return fuse.OK
}

func (r *raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(h *handle, n *node, e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

func (r *raw) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(h *handle, n *node, e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if n != nil {
			r.entry(n, entry)
		}
		return true
	})
}

// list adds the names of an open directory from an offset on. "." and ".." come
// without a node. An offset means the same to every handle: the kernel goes on
// with one where it has forgotten what another one read.
func (r *raw) list(in *fuse.ReadIn, add func(*handle, *node, fuse.DirEntry) bool) fuse.Status {
	h := r.m.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	r.m.tree.mu.Lock()
	defer r.m.tree.mu.Unlock()
	if in.Offset == 0 || h.places == nil { // opened, or rewound
		h.places = h.dir.places()
		r.m.walks.opened(h.dir, h.dir.names())
	}
	for _, p := range after(h.places, in.Offset) {
		e := fuse.DirEntry{Name: p.name, Off: p.offset, Mode: syscall.S_IFDIR, Ino: h.dir.ino}
		var n *node
		if p.offset > parentOffset {
			if n = h.dir.kids.get(p.name); n == nil {
				continue
			}
			e.Ino, e.Mode = n.ino, r.m.typeOf(n)
		}
		if !add(h, n, e) {
			break
		}
	}
	return fuse.OK
}

// typeOf returns what the kernel calls the type of n.
func (m *FS) typeOf(n *node) uint32 {
	switch {
	case n.is(isDir):
		return syscall.S_IFDIR
	case m.shownLink(n):
		return syscall.S_IFLNK
	}
	return syscall.S_IFREG
}

func (r *raw) ReleaseDir(in *fuse.ReleaseIn) { r.m.handles.take(in.Fh) }

// FsyncDir waits until the names are in the bucket.
func (r *raw) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx, end := r.context(cancel, in.Pid)
	defer end()
	return r.status(r.m.queue.drain(ctx))
}

func (r *raw) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const size, free = 1 << 50 / 4096, 1 << 49 / 4096 // a bucket has no end; programs want a number
	r.m.tree.mu.RLock()
	defer r.m.tree.mu.RUnlock()
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = size, free, free
	out.Files, out.Ffree = uint64(r.m.tree.files)+1<<40, 1<<40
	return fuse.OK
}

func (r *raw) String() string { return "skyagent" }

// Lseek leaves holes to the kernel, which then takes a file for data.
func (r *raw) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return fuse.ENOSYS
}
