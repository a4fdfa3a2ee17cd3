package watcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A diskProber looks at the paths of a source on disk. It belongs to the
// settler's goroutine.
type diskProber struct {
	root   string
	holds  func() bool     // the root is still the one that is watched
	leases map[uint64]bool // whether leases tell the truth, by device
	asked  time.Time       // when leases was begun
}

func newProbe(root string, holds func() bool) *diskProber {
	return &diskProber{root: root, holds: holds, leases: map[uint64]bool{}}
}

func (d *diskProber) probe(p manifest.Path) verdict {
	path := filepath.Join(d.root, filepath.FromSlash(string(p)))
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return verdict{state: gone}
	case err != nil, !info.Mode().IsRegular():
		return verdict{} // the reader will say what is wrong with it
	}
	if !d.leasesAt(path, info) {
		return verdict{state: unknown, size: info.Size()}
	}
	return verdict{state: openForWriting(path), size: info.Size()}
}

func (d *diskProber) rootHolds() bool { return d.holds() }
