package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

// ObjectOptions say which object an Object follows, and where to.
type ObjectOptions struct {
	File  string // absolute path of the file
	Store objstore.Store
	Key   string
	State string // path of the file that says what was placed

	// Wake says that the object may have changed; nil leaves that to polling.
	Wake <-chan struct{}
	Poll time.Duration // between looks; 0 means 15 s

	Log     *slog.Logger // nil discards
	Ready   func()       // called once, when the file is in place
	Applied func()       // called when another version is
}

// An Object keeps one file the same as one object: the COPY of a single object.
// The file appears whole, by rename, with the hash that the object's metadata
// names, if any. A local edit, and what was there before, is kept beside. An
// object that is deleted takes the file along, unless that was edited.
type Object struct {
	opt ObjectOptions
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	status ObjectStatus
}

// An ObjectStatus is an Object at one moment.
type ObjectStatus struct {
	State     State
	Reason    string
	Size      int64
	Fetched   int64 // versions
	Conflicts int64 // local versions kept beside
}

// placed is what an Object remembers over restarts.
type placed struct {
	Rev    objstore.Rev
	Stat   manifest.Stat // of the file in place; the zero Stat is none
	Coming manifest.Stat // of a file that was about to get the name
}

// is reports whether fi is what was placed, or was about to be: a rename, after
// which nothing could be noted, changes no more than the time of change.
func (p placed) is(fi fs.FileInfo) bool {
	now := manifest.StatOf(fi)
	coming := p.Coming
	coming.CTime = now.CTime
	return p.Stat.Unchanged(now) || p.Coming != (manifest.Stat{}) && coming.Unchanged(now)
}

// NewObject returns an Object that has not touched anything yet.
func NewObject(opt ObjectOptions) *Object {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Poll == 0 {
		opt.Poll = defaultPoll
	}
	return &Object{opt: opt, log: opt.Log, status: ObjectStatus{State: StateStarting}}
}

// Status returns how the object does.
func (o *Object) Status() ObjectStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status
}

func (o *Object) note(f func(*ObjectStatus)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.status)
}

// Follow keeps the file in step until ctx ends, and returns nil then. What
// fails before the file is in place is returned; later it is tried again.
func (o *Object) Follow(ctx context.Context) error {
	have, err := o.load()
	if err != nil {
		return err
	}
	ready := false
	for ctx.Err() == nil {
		changed, err := o.look(ctx, &have)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !ready:
			return err
		case err != nil:
			o.log.Warn("object not in place, trying again", "file", o.opt.File, "err", err)
			o.note(func(s *ObjectStatus) { s.State, s.Reason = StateDegraded, err.Error() })
		default:
			o.note(func(s *ObjectStatus) { s.State, s.Reason = StateReady, "" })
			if changed && o.opt.Applied != nil {
				o.opt.Applied()
			}
			if !ready && o.opt.Ready != nil {
				o.opt.Ready()
			}
			ready = true
		}
		o.wait(ctx)
	}
	return nil
}

func (o *Object) wait(ctx context.Context) {
	poll := time.NewTimer(o.opt.Poll)
	defer poll.Stop()
	select {
	case <-ctx.Done():
	case <-poll.C:
	case <-o.opt.Wake:
	}
}

// look brings the file in step with the object as it is now.
func (o *Object) look(ctx context.Context, have *placed) (changed bool, err error) {
	dir, base := filepath.Split(o.opt.File)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	info, err := o.opt.Store.Head(ctx, o.opt.Key)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrNoBucket) && have.Rev != "" {
		return o.remove(root, base, have)
	}
	if err != nil {
		return false, err
	}
	if _, err := root.Lstat(base); err == nil && info.Rev == have.Rev {
		return false, nil // also when it was edited: the edit stays until the object changes
	}
	return true, o.fetch(ctx, root, base, info, have)
}

// ours reports whether the file is as it was placed.
func (o *Object) ours(root *os.Root, base string, have placed) bool {
	fi, err := root.Lstat(base)
	return err == nil && have.is(fi)
}

// remove follows a deletion.
func (o *Object) remove(root *os.Root, base string, have *placed) (bool, error) {
	if o.ours(root, base, *have) {
		if err := root.Remove(base); err != nil {
			return false, err
		}
	}
	*have = placed{}
	return true, o.save(*have)
}

// fetch brings the version that info describes.
func (o *Object) fetch(ctx context.Context, root *os.Root, base string, info objstore.Info, have *placed) error {
	f := manifest.File{Path: manifest.Path(base), Size: info.Size, Mode: 0o644, MTime: info.ModTime.UnixNano()}
	f.TakeMeta(info.Meta)
	temp := "." + base + ".skyagent-part"
	err := o.fill(ctx, root, temp, info, f)
	if err == nil {
		err = dress(root, temp, f)
	}
	if err == nil {
		err = o.keepAside(root, base, f, *have)
	}
	if err == nil {
		err = o.place(root, temp, base, info.Rev, have)
	}
	if err != nil {
		root.Remove(temp)
		return fmt.Errorf("fetch %s: %w", o.opt.File, err)
	}
	o.note(func(s *ObjectStatus) { s.Size = info.Size; s.Fetched++ })
	return nil
}

// place gives the new file its name, and notes it before and after.
func (o *Object) place(root *os.Root, temp, base string, rev objstore.Rev, have *placed) error {
	fi, err := root.Lstat(temp)
	if err != nil {
		return err
	}
	have.Coming = manifest.StatOf(fi)
	if err := o.save(*have); err != nil {
		return err
	}
	if err := root.Rename(temp, base); err != nil {
		return err
	}
	if fi, err = root.Lstat(base); err != nil {
		return err
	}
	coming := placed{Coming: have.Coming}
	*have = placed{Rev: rev}
	if coming.is(fi) { // else somebody was quicker, and the file is his
		have.Stat = manifest.StatOf(fi)
	}
	return o.save(*have)
}

// objectRange is how much of a large object one request fetches.
const objectRange = 16 << 20

// fill writes the object to a new file by ranges, in parallel, and verifies it.
func (o *Object) fill(ctx context.Context, root *os.Root, temp string, info objstore.Info, f manifest.File) error {
	file, err := root.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rangeReads)
	for off := int64(0); off < info.Size; off += objectRange {
		group.Go(func() error { return o.fillRange(ctx, file, info, off) })
	}
	err = group.Wait()
	if err == nil && !f.Hash.IsZero() {
		err = verify(file, f)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (o *Object) fillRange(ctx context.Context, file *os.File, info objstore.Info, off int64) error {
	n := min(objectRange, info.Size-off)
	body, _, err := o.opt.Store.Get(ctx, o.opt.Key, off, n, objstore.Cond{If: info.Rev})
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.Copy(io.NewOffsetWriter(file, off), io.LimitReader(body, n))
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// keepAside makes room for f: what stands there and is not ours, nor f already,
// is kept beside.
func (o *Object) keepAside(root *os.Root, base string, f manifest.File, have placed) error {
	fi, err := root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if have.is(fi) || o.holds(root, base, fi, f) {
		return nil
	}
	aside := string(manifest.Path(base).Conflict(time.Now()))
	if _, err := root.Lstat(aside); err == nil {
		return fmt.Errorf("keep the local version of %s: %w", base, fs.ErrExist)
	}
	if err := root.Rename(base, aside); err != nil {
		return fmt.Errorf("keep the local version of %s: %w", base, err)
	}
	o.note(func(s *ObjectStatus) { s.Conflicts++ })
	o.log.Warn("a local version was in the way and is kept beside", "path", o.opt.File, "kept_as", aside)
	return nil
}

// holds reports whether the file in place is f, as far as its hash is known.
func (o *Object) holds(root *os.Root, base string, fi fs.FileInfo, f manifest.File) bool {
	if !fi.Mode().IsRegular() || fi.Size() != f.Size || f.Hash.IsZero() {
		return false
	}
	file, err := root.Open(base)
	if err != nil {
		return false
	}
	defer file.Close()
	return verify(file, f) == nil
}

func (o *Object) load() (placed, error) {
	var have placed
	b, err := os.ReadFile(o.opt.State)
	if errors.Is(err, fs.ErrNotExist) {
		return have, nil
	}
	if err == nil && json.Unmarshal(b, &have) != nil {
		o.log.Warn("state of the object damaged: it is fetched anew", "file", o.opt.State)
		return placed{}, nil
	}
	return have, err
}

func (o *Object) save(have placed) error {
	b, err := json.Marshal(have)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.opt.State), 0o700); err != nil {
		return err
	}
	temp := o.opt.State + ".tmp"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, o.opt.State)
}
