package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// A bucket is an open directory and what this process holds in it.
type bucket struct {
	root    *os.Root
	noXattr bool
	commits committer
	locks   [64]keyLock

	once    sync.Once // guards the fields below
	tmp     string    // this process's directory for temporary files
	alive   *os.File  // locked while we live, so that nobody sweeps tmp
	startup error

	temps atomic.Uint64 // counts names in tmp
}

// A keyLock is the lock of all keys with one hash: a mutex among goroutines,
// so that only one of them waits in the kernel, and a file among processes.
type keyLock struct {
	mu   sync.Mutex
	file *os.File // guarded by mu; opened when first needed
}

// start makes the directories of writers, sweeps what dead processes left, and
// registers this one. It is done before the first write, not before a read: a
// bucket that may not be written can be read.
func (b *bucket) start() error {
	b.once.Do(func() { b.startup = b.register() })
	return b.startup
}

func (b *bucket) register() error {
	for _, dir := range []string{tmpDir, lockDir, metaDir} {
		if err := b.root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	// Where "A" and "a" are one file, one object would silently replace the other.
	if _, err := b.root.Lstat(strings.ToUpper(hidden)); err == nil {
		return fmt.Errorf("the file system does not tell upper case from lower case: %w", errors.ErrUnsupported)
	}
	// Between making our lock file and locking it, a sweeper would take us for
	// dead: both happen under one lock.
	sweep, err := b.openLock("sweep")
	if err != nil {
		return err
	}
	defer sweep.Close()
	if err := flock(sweep, true); err != nil {
		return err
	}
	if err := b.sweep(); err != nil {
		return err
	}
	id := rand.Text()
	if b.alive, err = b.root.OpenFile(tmpDir+"/"+id+".lock", os.O_CREATE|os.O_RDWR, 0o666); err != nil {
		return err
	}
	b.tmp = tmpDir + "/" + id
	return errors.Join(flock(b.alive, true), b.root.Mkdir(b.tmp, 0o777), b.syncDirs(metaDir, hidden, "."))
}

// sweep removes the temporary files of processes that are dead: of those, and
// only of those, the lock can be had.
func (b *bucket) sweep() error {
	entries, err := fs.ReadDir(b.root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".lock")
		if !ok {
			continue
		}
		f, err := b.root.OpenFile(tmpDir+"/"+e.Name(), os.O_RDWR, 0)
		if err != nil {
			continue // another user's
		}
		if flock(f, false) == nil {
			b.root.RemoveAll(tmpDir + "/" + id)
			b.root.Remove(tmpDir + "/" + e.Name())
		}
		f.Close()
	}
	return nil
}

func (b *bucket) openLock(name string) (*os.File, error) {
	return b.root.OpenFile(lockDir+"/"+name, os.O_CREATE|os.O_RDWR, 0o666)
}

// close gives up the directory; writes that still run fail.
func (b *bucket) close() {
	for i := range b.locks {
		l := &b.locks[i]
		l.mu.Lock()
		if l.file != nil {
			l.file.Close()
			l.file = nil
		}
		l.mu.Unlock()
	}
	b.once.Do(func() { b.startup = os.ErrClosed })
	if b.alive != nil {
		b.alive.Close()
	}
	b.root.Close()
}

// locked runs f while nobody else, in any process, may change the object at key.
func (b *bucket) locked(key string, f func() error) error {
	n := fnv(key) % uint64(len(b.locks))
	l := &b.locks[n]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		file, err := b.openLock(fmt.Sprintf("%02d", n))
		if err != nil {
			return err
		}
		l.file = file
	}
	if err := flock(l.file, true); err != nil {
		return err
	}
	defer funlock(l.file)
	return f()
}

// syncDirs makes what was made or renamed in dirs durable.
func (b *bucket) syncDirs(dirs ...string) error {
	var files []*os.File
	defer func() { closeAll(files) }()
	for _, dir := range dirs {
		f, err := b.root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned meanwhile, with all that was in it
		}
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	return b.commits.sync(files...)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// find returns where the object at key is, if it is anywhere.
func (b *bucket) find(key string) (string, fs.FileInfo, error) {
	if plain(key) {
		fi, err := b.root.Lstat(key)
		if err == nil && fi.Mode().IsRegular() {
			return key, fi, nil
		}
		if err != nil && !nothing(err) {
			return "", nil, err
		}
	}
	path := oddDir + "/" + oddPath(key)
	fi, err := b.root.Lstat(path)
	if err != nil && nothing(err) {
		err = fs.ErrNotExist
	}
	return path, fi, err
}

// look finds the object at key and reads its stamp. f is open when err is nil.
func (b *bucket) look(ctx context.Context, key string) (f *os.File, fi fs.FileInfo, s stamp, err error) {
	if err := checkKey(key); err != nil {
		return nil, nil, stamp{}, err
	}
	f, fi, s, ok, err := b.openKey(key)
	if err != nil || ok {
		return f, fi, s, err
	}
	// No stamp on the file: a sidecar, which must not be removed between
	// opening the one and the other, or a file that others put there.
	f.Close()
	lockErr := b.locked(key, func() error {
		if f, fi, s, ok, err = b.openKey(key); err == nil && !ok {
			s = b.sidecarOf(fi)
		}
		return nil
	})
	if lockErr != nil { // a bucket we may only read, or not lock
		f, fi, s, _, err = b.openKey(key)
	}
	return f, fi, s, err
}

func (b *bucket) openKey(key string) (f *os.File, fi fs.FileInfo, s stamp, ok bool, err error) {
	path, _, err := b.find(key)
	if err != nil {
		return nil, nil, stamp{}, false, err
	}
	if f, err = b.root.Open(path); err != nil {
		return nil, nil, stamp{}, false, err
	}
	if fi, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, stamp{}, false, err
	}
	s, ok = stampOf(f)
	return f, fi, s, ok, nil
}

// fnv is the 64-bit FNV-1a hash, the same in all processes and versions.
func fnv(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h
}
