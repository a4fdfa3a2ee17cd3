package blocks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// A space is the room on disk that contents may take. When there is no more,
// those that were not used for longest are deleted, down to nine tenths, so
// that the look at all files that this takes is paid by a tenth of them.
//
// Who cannot write, because the disk is full or ill, goes on without it and
// tries again after a while.
type space struct {
	cache  *Cache
	dir    string
	max    int64
	tally  *tally
	used   atomic.Int64 // bytes, of all processes as far as is known
	coming atomic.Int64 // of them, what is being written: on disk or not

	evicting sync.Mutex   // held by who makes room
	retry    atomic.Int64 // when to try the disk again, in ns since 1970; 0 while it works
}

var errNoDisk = errors.New("the cache's disk cannot be written")

const (
	fileCost  = 4096             // bytes: what a file's last block and its inode take, about
	illFor    = 30 * time.Second // between two tries of a disk that failed
	tempsName = "temp"           // directory below the cache's
	oldTemp   = time.Hour        // age at which a file there is nobody's
)

func openSpace(c *Cache, max int64) (*space, error) {
	s := &space{cache: c, dir: c.dir, max: max}
	if err := os.MkdirAll(filepath.Join(c.dir, tempsName), 0o700); err != nil {
		return nil, err
	}
	s.sweep()
	var err error
	s.tally, err = openTally(c.dir)
	return s, err
}

func (s *space) close() error { return s.tally.close() }

// sweep deletes what processes left that were killed.
func (s *space) sweep() {
	entries, _ := os.ReadDir(filepath.Join(s.dir, tempsName)) // the next Open sweeps too
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > oldTemp {
			_ = os.Remove(filepath.Join(s.dir, tempsName, e.Name()))
		}
	}
}

// take makes room for n bytes and calls write, which writes them. When that
// fails because the disk is full, it makes more room and tries once more. An
// error that is not ErrCorrupt says that the disk cannot be used now.
func (s *space) take(n int64, write func() error) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.coming.Add(n)
	defer s.coming.Add(-n)
	if s.used.Add(n)+s.tally.others(n) > s.max {
		s.evict()
	}
	err := write()
	if isFull(err) && s.shrink() {
		err = write()
	}
	switch {
	case err == nil:
		s.works()
	case errors.Is(err, os.ErrClosed) || errors.Is(err, ErrCorrupt):
	default:
		s.broken(err)
	}
	return err
}

// usable returns an error while the disk is not to be tried.
func (s *space) usable() error {
	if until := s.retry.Load(); until != 0 && time.Now().UnixNano() < until {
		return errNoDisk
	}
	return nil
}

func (s *space) isBroken() bool { return s.retry.Load() != 0 }

// broken notes that the disk failed. It is said once.
func (s *space) broken(err error) {
	if s.retry.Swap(time.Now().Add(illFor).UnixNano()) == 0 {
		s.cache.log.Warn("cache cannot write to its disk, contents stay in memory", "dir", s.dir, "err", err)
	}
}

// works notes that the disk was written. What had begun before it failed says
// nothing.
func (s *space) works() {
	if s.isBroken() && s.usable() == nil && s.retry.Swap(0) != 0 {
		s.cache.log.Info("cache can write to its disk again", "dir", s.dir)
	}
}

// temp makes a file that is swept when it is forgotten.
func (s *space) temp() (*os.File, error) {
	return os.CreateTemp(filepath.Join(s.dir, tempsName), "")
}

// nameless returns a file without a name that holds b, open for reading.
func (s *space) nameless(b []byte) (*os.File, error) {
	f, err := s.temp()
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return os.Open(f.Name())
}

// copyOf returns the name of a file that holds what f holds and that nobody
// else will write.
func (s *space) copyOf(f *os.File) (string, error) {
	name, err := s.name()
	if err != nil {
		return "", err
	}
	if handedOver(f) && link(f, name) == nil {
		return name, os.Chmod(name, 0o600)
	}
	to, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if clone(to, f) != nil {
		err = copyAll(to, f)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("copy to %s: %w", name, err), os.Remove(name))
	}
	return name, nil
}

// name returns one that nobody uses.
func (s *space) name() (string, error) {
	f, err := s.temp()
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(f.Close(), os.Remove(f.Name()))
}

// copyAll copies f from its start, wherever its offset is.
func copyAll(to, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return copyRange(to, f, st.Size())
}

func copyBytes(to, f *os.File, size int64) error {
	n, err := io.Copy(to, io.NewSectionReader(f, 0, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
