package syncer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// disk returns p as a name below the replica's root.
func disk(p manifest.Path) string { return filepath.FromSlash(string(p)) }

// ours reports whether the file at p, which looks like fi, is one that this
// replica put there and nobody changed since.
func (r *Replica) ours(p manifest.Path, fi fs.FileInfo) bool {
	f, ok := r.index.Files().Get(p)
	if !ok || f.IsDir() || !fi.Mode().IsRegular() {
		return false
	}
	if moved := r.moving[p]; moved != nil && os.SameFile(moved, fi) {
		return true // its new name has changed its times
	}
	if r.index.Stat(p).Unchanged(manifest.StatOf(fi)) {
		return true
	}
	hash, err := r.hashOf(p)
	for try := 0; errors.Is(err, manifest.ErrUnstable) && try < hashTries; try++ {
		// A run that was killed may have left two names of one file: whoever
		// gives the other its mode and time changes this one under our eyes.
		time.Sleep(time.Millisecond)
		hash, err = r.hashOf(p)
	}
	return err == nil && hash == f.Hash
}

// hashTries is how often a file is read again before it counts as one that
// somebody is writing to.
const hashTries = 5

// hashOf reads a file of the replica.
func (r *Replica) hashOf(p manifest.Path) (manifest.Hash, error) {
	file, err := manifest.OpenStable(r.root, p)
	if err != nil {
		return manifest.Hash{}, err
	}
	defer file.Close()
	hash, _, err := file.Hash(0)
	return hash, err
}

// inPlace reports whether the file holds what f says already, and gives it f's
// mode and time then.
func (r *Replica) inPlace(f manifest.File, in *folder, d *result) bool {
	fi, err := in.lstat(f.Path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != f.Size {
		return false
	}
	old, known := r.index.Files().Get(f.Path)
	unchanged := known && old.SameContent(f) && r.index.Stat(f.Path).Unchanged(manifest.StatOf(fi))
	if known && !old.SameContent(f) && r.index.Stat(f.Path).Unchanged(manifest.StatOf(fi)) {
		return false // the version before, untouched: no need to read it
	}
	if !unchanged {
		if hash, err := r.hashOf(f.Path); err != nil || hash != f.Hash {
			return false
		}
	}
	if err := dress(r.root, disk(f.Path), f); err != nil {
		d.fail(f.Path, err)
		return true
	}
	r.arrived(f, in, d)
	return true
}

// dress gives a file its mode and time.
func dress(root *os.Root, name string, f manifest.File) error {
	if err := root.Chmod(name, f.Mode.Perm()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, f.ModTime())
}

// settle moves a verified temporary file to its name. The rename is the only
// step that anybody sees.
func (r *Replica) settle(f manifest.File, t temp, in *folder, d *result) {
	err := dress(t.root, t.base, f)
	if err == nil {
		err = r.makeRoom(f.Path, in, d)
	}
	if err == nil {
		err = r.within(f.Path, func() error { return r.root.Rename(t.path(), disk(f.Path)) })
	}
	if err != nil {
		t.remove()
		var link *os.LinkError // the temporary file's name is nobody's business
		if errors.As(err, &link) {
			err = link.Err
		}
		d.fail(f.Path, fmt.Errorf("place %s: %w", f.Path, err))
		return
	}
	r.arrived(f, in, d)
}

// announce journals files that are about to appear, if the disk lets it.
func (r *Replica) announce(files ...manifest.File) {
	if err := r.journal.add(files...); err != nil {
		r.log.Debug("not journaled", "path", files[0].Path, "err", err)
	}
}

// within changes the entry p of its directory, through a mode of ours that
// closes that directory to writing if it must.
func (r *Replica) within(p manifest.Path, change func() error) error {
	err := change()
	if !errors.Is(err, fs.ErrPermission) || p.Dir() == "" {
		return err
	}
	dir, ok := r.index.Files().Get(p.Dir())
	if !ok {
		return err
	}
	r.modes.Lock()
	defer r.modes.Unlock()
	if r.root.Chmod(disk(p.Dir()), dir.Mode.Perm()|0o700) != nil {
		return err
	}
	defer r.root.Chmod(disk(p.Dir()), dir.Mode.Perm())
	return change()
}

// arrived notes that f is in place. When the file is no longer as it was
// placed, somebody was quicker, and its Stat proves nothing.
func (r *Replica) arrived(f manifest.File, in *folder, d *result) {
	var stat manifest.Stat
	if fi, err := in.lstat(f.Path); err == nil {
		stat = manifest.StatOf(fi)
	}
	d.place(seen(f, stat))
}

// seen returns what the index notes of f, which looked like stat once it was in
// place.
func seen(f manifest.File, stat manifest.Stat) manifest.Entry {
	if stat.MTime != f.MTime || stat.Size != f.Size {
		return manifest.Entry{File: f}
	}
	return manifest.Entry{File: f, Stat: stat}
}

// makeRoom prepares the name p for a file: its directory is there, and what
// stands at p may be replaced. A stranger's file is kept beside.
func (r *Replica) makeRoom(p manifest.Path, in *folder, d *result) error {
	fi, err := in.lstat(p)
	if err != nil && in.root != nil {
		return nil
	}
	if err != nil {
		return r.parents(p, d) // a file or a symlink may stand where p needs a directory
	}
	if r.ours(p, fi) {
		return nil
	}
	if fi.IsDir() && r.within(p, func() error { return r.root.Remove(disk(p)) }) == nil {
		return nil // an empty directory is nobody's work
	}
	return r.keepAside(p, d)
}

// parents makes the directories above p, should the manifest not name them.
func (r *Replica) parents(p manifest.Path, d *result) error {
	dir := p.Dir()
	if dir == "" {
		return nil
	}
	if fi, err := r.root.Lstat(disk(dir)); err == nil && fi.IsDir() {
		return nil
	}
	if err := r.parents(dir, d); err != nil {
		return err
	}
	return r.mkdir(dir, 0o755, d)
}

// mkdir makes the directory p; a stranger in its place is kept beside.
func (r *Replica) mkdir(p manifest.Path, mode fs.FileMode, d *result) error {
	mkdir := func() error { return r.root.Mkdir(disk(p), mode) }
	if fi, err := r.root.Lstat(disk(p)); err == nil && fi.IsDir() {
		return nil
	}
	r.announce(manifest.File{Path: p, Mode: manifest.DirMode(fs.ModeDir | mode)})
	err := r.within(p, mkdir)
	if err == nil {
		d.made(p)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := r.root.Lstat(disk(p))
	if err != nil || fi.IsDir() {
		return err
	}
	if r.ours(p, fi) {
		err = r.within(p, func() error { return r.root.Remove(disk(p)) })
	} else {
		err = r.keepAside(p, d)
	}
	if err != nil {
		return err
	}
	return r.within(p, mkdir)
}

// makeDir makes a directory of the manifest, writable until setMode.
func (r *Replica) makeDir(f manifest.File, d *result) {
	err := r.parents(f.Path, d)
	if err == nil {
		err = r.mkdir(f.Path, f.Mode.Perm()|0o700, d)
	}
	if err != nil {
		d.fail(f.Path, fmt.Errorf("make directory %s: %w", f.Path, err))
	}
}

func (r *Replica) setMode(f manifest.File, d *result) {
	if d.failed[f.Path] != nil {
		return
	}
	fi, err := r.root.Lstat(disk(f.Path))
	if err == nil && fi.IsDir() && fi.Mode().Perm() != f.Mode.Perm() {
		err = r.root.Chmod(disk(f.Path), f.Mode.Perm())
	}
	if err != nil {
		d.fail(f.Path, fmt.Errorf("set mode of %s: %w", f.Path, err))
		return
	}
	d.place(manifest.Entry{File: f})
}

// keepAside renames what stands at p, which is not ours to replace.
func (r *Replica) keepAside(p manifest.Path, d *result) error {
	name := disk(p)
	for n := 0; ; n++ {
		aside := disk(p.Conflict(time.Now().Add(time.Duration(n) * time.Millisecond)))
		if _, err := r.root.Lstat(aside); err == nil {
			continue
		}
		if err := r.within(p, func() error { return r.root.Rename(name, aside) }); err != nil {
			return fmt.Errorf("keep the local version of %s: %w", p, err)
		}
		d.kept()
		r.log.Warn("a local version was in the way and is kept beside", "path", p, "kept_as", aside)
		return nil
	}
}

// notEmpty reports whether err says that a directory holds something.
func notEmpty(err error) bool {
	return errors.Is(err, errNotEmpty) || errors.Is(err, os.ErrExist)
}
