package mount

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// observed tells of the requests that programs wait for.
type observed struct {
	*raw
	seen Seen
}

func (o *observed) tell(op string, since time.Time) { o.seen(op, time.Since(since)) }

func (o *observed) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer o.tell("lookup", time.Now())
	return o.raw.Lookup(cancel, h, name, out)
}

func (o *observed) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	defer o.tell("create", time.Now())
	return o.raw.Create(cancel, in, name, out)
}

func (o *observed) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	defer o.tell("create", time.Now())
	return o.raw.Mkdir(cancel, in, name, out)
}

func (o *observed) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	defer o.tell("remove", time.Now())
	return o.raw.Unlink(cancel, h, name)
}

func (o *observed) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	defer o.tell("remove", time.Now())
	return o.raw.Rmdir(cancel, h, name)
}

func (o *observed) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	defer o.tell("rename", time.Now())
	return o.raw.Rename(cancel, in, oldName, newName)
}

func (o *observed) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	defer o.tell("open", time.Now())
	return o.raw.Open(cancel, in, out)
}

func (o *observed) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	defer o.tell("read", time.Now())
	return o.raw.Read(cancel, in, buf)
}

func (o *observed) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	defer o.tell("write", time.Now())
	return o.raw.Write(cancel, in, data)
}

func (o *observed) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	defer o.tell("write", time.Now())
	return o.raw.Writev(cancel, in, data)
}

func (o *observed) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	defer o.tell("flush", time.Now())
	return o.raw.Flush(cancel, in)
}

func (o *observed) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	defer o.tell("fsync", time.Now())
	return o.raw.Fsync(cancel, in)
}

func (o *observed) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer o.tell("list", time.Now())
	return o.raw.ReadDirPlus(cancel, in, out)
}

func (o *observed) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer o.tell("list", time.Now())
	return o.raw.ReadDir(cancel, in, out)
}
