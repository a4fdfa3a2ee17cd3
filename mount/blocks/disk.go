package blocks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	version    = "1"     // of what lies in the directory; another version lies beside
	short      = 16      // bytes of an id that make a file's name
	sumsSuffix = ".sums" // of the file that says which pieces are there
	sumsHeader = 64      // bytes before the first entry
	entrySize  = 8       // bytes: a checksum and a state, for each piece

	touchEvery = time.Minute // how old the time of a file's last use may be
)

// States of a piece in the file of checksums. They are part of what the
// checksum covers.
const (
	absent   = 0
	unproven = 1 // as the store sent it
	proven   = 2 // and part of a part whose hash was right
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A disk is a large content as it lies on disk, open: a sparse file that is
// exactly the content's size, and beside it a file of checksums. A piece is
// written before its checksum, without fsync: after a crash a checksum that
// came through alone does not fit. So a piece is checked when it is used for
// the first time since the file was opened, and then no more.
//
// Several processes may have the same files open, and one may have deleted
// them: all write the same bytes.
type disk struct {
	id     id
	size   int64
	data   *os.File
	sums   *os.File
	have   pieces // written, as far as is known
	good   pieces // and the checksum was right since the files were opened
	proven pieces // and the part's hash was, at some time
}

// openDisk opens the files at path, and makes them where they are not there.
func openDisk(path string, i id, size int64) (*disk, error) {
	data, err := create(path)
	if err != nil {
		return nil, err
	}
	sums, err := create(path + sumsSuffix)
	if err != nil {
		data.Close()
		return nil, err
	}
	n := ceil(size, grain)
	d := &disk{id: i, size: size, data: data, sums: sums, have: newPieces(n), good: newPieces(n), proven: newPieces(n)}
	if err := d.prepare(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// create opens a file for reading and writing, and makes it and its directory.
func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	return f, err
}

func (d *disk) prepare() error {
	st, err := d.data.Stat()
	if err != nil {
		return err
	}
	if st.Size() != d.size {
		if err := d.data.Truncate(d.size); err != nil {
			return err
		}
	}
	if time.Since(st.ModTime()) > touchEvery {
		d.touch(time.Now())
	}
	header := d.header()
	got := make([]byte, len(header))
	if _, err := d.sums.ReadAt(got, 0); err == nil && bytes.Equal(got, header) {
		return d.refresh(0, int64(ceil(d.size, grain)))
	}
	if err := d.sums.Truncate(0); err != nil {
		return err
	}
	_, err = d.sums.WriteAt(header, 0)
	return err
}

// header is what a file of checksums begins with: whose it is.
func (d *disk) header() []byte {
	b := append(make([]byte, 0, sumsHeader), "skyblk"+version+"\n"...)
	b = append(b, d.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(d.size))
	b = binary.LittleEndian.AppendUint64(b, grain)
	return b[:sumsHeader]
}

// touch tells the order of eviction that the content was used at t.
func (d *disk) touch(t time.Time) { _ = os.Chtimes(d.data.Name(), t, t) }

func (d *disk) close() {
	d.data.Close()
	d.sums.Close()
}

// refresh reads which of the pieces from from to to are there: another process
// may have fetched them.
func (d *disk) refresh(from, to int64) error {
	b := make([]byte, (to-from)*entrySize)
	n, err := d.sums.ReadAt(b, sumsHeader+from*entrySize)
	if err != nil && err != io.EOF {
		return err
	}
	for i := from; i < from+int64(n/entrySize); i++ {
		switch b[(i-from)*entrySize+4] {
		case proven:
			d.proven.add(i)
			d.have.add(i)
		case unproven:
			d.have.add(i)
		}
	}
	return nil
}

// length returns how many bytes piece i has.
func (d *disk) length(i int64) int64 { return min(grain, d.size-i*grain) }

// entry is what stands for piece i with content b in the file of checksums.
func (d *disk) entry(i int64, b []byte, state byte) (e [entrySize]byte) {
	var where [len(id{}) + 9]byte
	copy(where[:], d.id[:])
	binary.LittleEndian.PutUint64(where[len(d.id):], uint64(i))
	where[len(where)-1] = state
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, where[:])
	binary.LittleEndian.PutUint32(e[:], sum)
	e[4] = state
	return e
}

// ready reports whether the n bytes at off may be read as they are.
func (d *disk) ready(off, n int64) bool { return d.good.all(off/grain, ceil(off+n, grain)) }

// isProven reports whether the n bytes at off are part of proven parts.
func (d *disk) isProven(off, n int64) bool { return d.proven.all(off/grain, ceil(off+n, grain)) }

// check reports whether piece i is there and right. A piece that is not is
// forgotten, as is one that cannot be read.
func (d *disk) check(i int64) (bool, error) {
	if d.good.has(i) {
		return true, nil
	}
	if !d.have.has(i) {
		return false, nil
	}
	b := buffer(int(d.length(i)))
	defer recycle(b)
	var e [entrySize]byte
	if _, err := d.sums.ReadAt(e[:], sumsHeader+i*entrySize); errors.Is(err, fs.ErrClosed) {
		return false, err
	}
	if _, err := d.data.ReadAt(b, i*grain); errors.Is(err, fs.ErrClosed) {
		return false, err
	} else if err != nil || e != d.entry(i, b, e[4]) || e[4] == absent {
		return false, d.drop(i, i+1)
	}
	d.good.add(i)
	return true, nil
}

// write keeps b, which begins with piece i and is whole pieces. They are good
// from now on, and proven if state says so.
func (d *disk) write(i int64, b []byte, state byte) error {
	if _, err := d.data.WriteAt(b, i*grain); err != nil {
		return err
	}
	return d.note(i, b, state)
}

// note writes the checksums for b, which lies in the file already.
func (d *disk) note(i int64, b []byte, state byte) error {
	entries := make([]byte, 0, (len(b)/grain+1)*entrySize)
	for at := 0; at < len(b); at += grain {
		e := d.entry(i+int64(at/grain), b[at:min(at+grain, len(b))], state)
		entries = append(entries, e[:]...)
	}
	if _, err := d.sums.WriteAt(entries, sumsHeader+i*entrySize); err != nil {
		return err
	}
	for ; len(entries) > 0; i, entries = i+1, entries[entrySize:] {
		d.have.add(i)
		d.good.add(i)
		if state == proven {
			d.proven.add(i)
		}
	}
	return nil
}

// drop forgets the pieces from from to to.
func (d *disk) drop(from, to int64) error {
	for i := from; i < to; i++ {
		d.good.remove(i)
		d.proven.remove(i)
		d.have.remove(i)
	}
	_, err := d.sums.WriteAt(make([]byte, (to-from)*entrySize), sumsHeader+from*entrySize)
	return err
}

// complete reports whether all pieces are there, and proven where something
// proves them.
func (d *disk) complete(prove bool) bool {
	n := ceil(d.size, grain)
	return d.have.all(0, n) && (!prove || d.proven.all(0, n))
}

// checkAll checks all pieces, and reports whether they are good.
func (d *disk) checkAll() (bool, error) {
	for i := range ceil(d.size, grain) {
		if ok, err := d.check(i); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// unchecked returns how many bytes are there that no one looked at since the
// files were opened.
func (d *disk) unchecked() (n int64) {
	for i := range ceil(d.size, grain) {
		if d.have.has(i) && !d.good.has(i) {
			n += grain
		}
	}
	return n
}

// again opens the content once more, for reading, for somebody else.
func (d *disk) again() (*os.File, error) {
	f, err := os.Open(d.data.Name())
	if err != nil {
		return nil, err
	}
	theirs, err := f.Stat()
	if err == nil {
		var ours os.FileInfo
		if ours, err = d.data.Stat(); err == nil && (!os.SameFile(ours, theirs) || theirs.Size() != d.size) {
			err = fmt.Errorf("open %s again: %w", f.Name(), fs.ErrNotExist)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
