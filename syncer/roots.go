package syncer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// A base is one of the directories that a source is read from.
type base struct {
	dir   string
	roots []*os.Root    // every directory that the name stood for; the last is read
	place manifest.Stat // of the last
	dev   uint64        // the device when it was first seen
}

// open opens the directory, and opens it anew when its name stands for another
// one: after an unmount or a move the old descriptor would go on showing the old
// tree. It returns nil when nothing is new.
func (b *base) open() (*os.Root, manifest.Stat, error) {
	fi, err := os.Stat(b.dir)
	if err != nil {
		return nil, manifest.Stat{}, fmt.Errorf("source: %w", err)
	}
	if !fi.IsDir() {
		return nil, manifest.Stat{}, fmt.Errorf("source %s is not a directory", b.dir)
	}
	place := manifest.StatOf(fi)
	if len(b.roots) > 0 && place.Dev == b.place.Dev && place.Ino == b.place.Ino {
		return nil, place, nil
	}
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return nil, place, fmt.Errorf("source: %w", err)
	}
	if len(b.roots) == 0 {
		b.dev = place.Dev
	}
	return root, place, nil
}

func (b *base) close() error {
	var err error
	for _, root := range b.roots {
		err = errors.Join(err, root.Close())
	}
	return err
}

// openRoots opens the source's directories, or those that are new.
func (s *Source) openRoots() error {
	for i := range s.bases {
		b := &s.bases[i]
		root, place, err := b.open()
		if err != nil {
			return err
		}
		if root != nil {
			s.mu.Lock()
			b.roots, b.place = append(b.roots, root), place
			s.mu.Unlock()
		}
	}
	return nil
}

// root returns the directory to read p from, and p's path below it. Old
// directories stay open until close, since an uploader may still read a file of
// theirs.
func (s *Source) root(p manifest.Path) (*os.Root, manifest.Path) {
	i, below := s.tree.Find(p)
	if i < 0 {
		i = 0 // what a place's name was taken away from is not there
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	roots := s.bases[i].roots
	return roots[len(roots)-1], below
}

// checkRoot finds out whether what the root's name stands for is still the
// source: an unmounted or vanished directory is not one that was emptied.
func (s *Source) checkRoot() bool {
	lost := s.rootProblem()
	s.lose(lost)
	return lost == ""
}

// lose notes why the root may not be read, "" when it may.
func (s *Source) lose(reason string) {
	if reason != "" && s.lost == "" {
		s.log.Warn("guarded: nothing is taken for deleted", "reason", reason)
	}
	s.lost = reason
	s.retryRoot = time.Now().Add(rootPoll)
}

// rootProblem says why the source may not be read now, "" when it may.
func (s *Source) rootProblem() string {
	for i := range s.bases {
		if reason := s.baseProblem(&s.bases[i]); reason != "" {
			if len(s.bases) > 1 {
				reason = s.bases[i].dir + ": " + reason
			}
			return reason
		}
	}
	return ""
}

func (s *Source) baseProblem(b *base) string {
	fi, err := os.Stat(b.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the source directory is gone"
	case err != nil:
		return fmt.Sprintf("the source directory cannot be read: %v", err)
	case !fi.IsDir():
		return "the source is no longer a directory"
	case manifest.StatOf(fi).Dev != b.dev && !s.moved():
		return "the source directory is on another device, which does not have its files"
	}
	b.dev = manifest.StatOf(fi).Dev
	return ""
}

// moved reports whether a root on another device is the source all the same: a
// file system that is mounted again may get another number. What belongs into
// the root itself must be there; the guard watches over the rest.
func (s *Source) moved() bool {
	for f := range s.index.Files().Children("") {
		if _, err := os.Lstat(s.disk(f.Path)); err != nil {
			return false
		}
		if s.tree.Named() && f.IsDir() {
			for f := range s.index.Files().Children(f.Path) {
				if _, err := os.Lstat(s.disk(f.Path)); err != nil {
					return false
				}
			}
		}
	}
	return true
}
