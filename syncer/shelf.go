package syncer

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/skyagent/skyagent/manifest"
)

// tempDir holds files until they are verified.
var tempDir = filepath.Join(manifest.Reserved, "tmp")

// A shelf is one of the directories below tempDir. There are several because
// the kernel makes and renames the entries of one directory one at a time.
type shelf struct {
	name string   // below the replica's root
	root *os.Root // the shelf itself, open: no way down to walk for every file
}

const shelfCount = 8

// A temp is a file on a shelf.
type temp struct {
	*shelf
	base string
}

// openShelves sweeps what an earlier run left and makes the shelves anew.
func openShelves(root *os.Root) (shelves []*shelf, err error) {
	if err := root.RemoveAll(tempDir); err != nil {
		return nil, err
	}
	for i := range shelfCount {
		s := &shelf{name: filepath.Join(tempDir, strconv.Itoa(i))}
		shelves = append(shelves, s)
		if err := s.open(root); err != nil {
			return shelves, err
		}
	}
	return shelves, nil
}

func (s *shelf) open(root *os.Root) (err error) {
	if err := root.MkdirAll(s.name, 0o700); err != nil {
		return err
	}
	s.root, err = root.OpenRoot(s.name)
	return err
}

func (s *shelf) close() {
	if s.root != nil {
		s.root.Close()
	}
}

// next names a file that is not there yet.
func (s *shelf) next() temp { return temp{s, rand.Text()} }

func (t temp) create() (*os.File, error) {
	return t.root.OpenFile(t.base, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// path is the file's name below the replica's root.
func (t temp) path() string { return filepath.Join(t.name, t.base) }

func (t temp) remove() { t.root.Remove(t.base) }

// A folder is the directory of files that are placed one after the other, held
// open for looks at them. All else goes by the whole path, from the root.
// It is for one goroutine.
type folder struct {
	replica *Replica
	path    manifest.Path
	root    *os.Root // nil until it is there
	dir     *os.File // the same
}

// open reports whether the folder is a directory that is there, reached through
// no symlink.
func (f *folder) open() bool {
	if f.root != nil {
		return true
	}
	if !f.replica.real(f.path) {
		return false
	}
	root, err := f.replica.root.OpenRoot(filepath.Join(".", disk(f.path)))
	if err != nil {
		return false
	}
	if f.dir, err = root.Open("."); err != nil {
		root.Close()
		return false
	}
	f.root = root
	return true
}

// lstat looks at a file of the folder.
func (f *folder) lstat(p manifest.Path) (fs.FileInfo, error) {
	if !f.open() {
		return f.replica.root.Lstat(disk(p))
	}
	return f.root.Lstat(filepath.Base(disk(p)))
}

// close forgets the directory, which may have become another one.
func (f *folder) close() {
	if f.root != nil {
		f.root.Close()
		f.dir.Close()
		f.root = nil
	}
}
