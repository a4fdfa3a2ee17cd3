package blocks

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Small contents lie one behind the other in packs, since to make a file for
// each takes longer than to fetch it. A process writes to a pack of its own,
// until it is full, and reads from all. Beside a pack lies its index, which is
// written after it.
//
// In a pack every content is followed by whose it is and a checksum, which are
// compared whenever it is read: what a crash left behind is not there.
type packs struct {
	dir  string
	full int64 // bytes from which a pack is not written any more; it is evicted as a whole

	writing sync.Mutex // held by who writes to current, or changes it
	current *pack      // nil before there is one
	data    *os.File   // of current
	index   *os.File

	mu     sync.Mutex // guards what follows
	known  map[string]*pack
	places map[[short]byte]place
	looked time.Time // for what other processes wrote
}

// A pack is one file of small contents.
type pack struct {
	path string
	own  bool  // it is written here, or was
	size int64 // bytes, of an own one; guarded by packs.writing
	read int64 // bytes of its index that are known, of others'
	gone bool  // it is deleted
}

// A place is where a content begins.
type place struct {
	pack *pack
	off  uint32
}

const (
	packsName   = "packs" // directory below the cache's
	indexSuffix = sumsSuffix
	placeSize   = short + 4 + 4 // bytes of the index for a content: id, offset, checksum of both
	trailerSize = len(id{}) + 4 // bytes behind a content: id, checksum of all
	leastPack   = 1 << 20       // bytes
	mostPack    = 64 << 20      // bytes
	lookEvery   = time.Second   // for what other processes wrote
)

func openPacks(dir string, max int64) (*packs, error) {
	p := &packs{
		dir: filepath.Join(dir, packsName), full: min(mostPack, up(max/64+leastPack, leastPack)),
		known: map[string]*pack{}, places: map[[short]byte]place{},
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	p.look()
	return p, nil
}

func (p *packs) close() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.finish()
}

// find returns where the content i is, as far as is known.
func (p *packs) find(i id) (place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.places[[short]byte(i[:short])]
	if !ok && time.Since(p.looked) > lookEvery {
		p.look()
		at, ok = p.places[[short]byte(i[:short])]
	}
	return at, ok && !at.pack.gone
}

// read returns the content i, of size bytes, if it is there.
func (p *packs) read(i id, size int64) ([]byte, bool) {
	at, ok := p.find(i)
	if !ok {
		return nil, false
	}
	b, err := at.read(i, size)
	if err != nil {
		p.lose(i, at, errors.Is(err, fs.ErrNotExist))
		return nil, false
	}
	return b, true
}

// read reads the content at a place and checks it.
func (at place) read(i id, size int64) ([]byte, error) {
	f, err := os.Open(at.pack.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size+int64(trailerSize))
	if _, err := f.ReadAt(b, int64(at.off)); err != nil {
		return nil, err
	}
	content := b[:size:size]
	if string(appendTrailer(content, i)[size:]) != string(b[size:]) {
		return nil, ErrCorrupt
	}
	touch(f)
	return content, nil
}

// touch tells the order of eviction that a file was used, now and then.
func touch(f *os.File) {
	if st, err := f.Stat(); err == nil && time.Since(st.ModTime()) > touchEvery {
		now := time.Now()
		_ = os.Chtimes(f.Name(), now, now)
	}
}

// lose forgets a content that is not where it should be, or its whole pack.
func (p *packs) lose(i id, at place, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at.pack.gone = at.pack.gone || all
	if p.places[[short]byte(i[:short])] == at {
		delete(p.places, [short]byte(i[:short]))
	}
}

// write keeps b, which is the content i.
func (p *packs) write(i id, b []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	err := p.prepare()
	if err == nil {
		if err = p.append(i, b); err != nil {
			err = errors.Join(err, p.finish())
		}
	}
	return err
}

// append writes to the current pack. p.writing is held.
func (p *packs) append(i id, b []byte) error {
	at := place{p.current, uint32(p.current.size)}
	if _, err := p.data.WriteAt(appendTrailer(b[:len(b):len(b)], i), p.current.size); err != nil {
		return err
	}
	p.current.size += int64(len(b) + trailerSize)
	if _, err := p.index.Write(at.encode(i)); err != nil {
		return err
	}
	p.mu.Lock()
	p.places[[short]byte(i[:short])] = at
	p.mu.Unlock()
	return nil
}

// prepare sees to it that there is a current pack with room. p.writing is held.
func (p *packs) prepare() error {
	if p.current != nil && p.current.size < p.full && !p.isGone(p.current) {
		return nil
	}
	if err := p.finish(); err != nil {
		return err
	}
	var name [short]byte
	_, _ = rand.Read(name[:]) // it never fails
	next := &pack{own: true, path: filepath.Join(p.dir, hex.EncodeToString(name[:]))}
	var err error
	if p.data, err = create(next.path); err != nil {
		return err
	}
	if p.index, err = create(next.path + indexSuffix); err != nil {
		return errors.Join(err, p.data.Close())
	}
	p.current = next
	p.mu.Lock()
	p.known[next.path] = next
	p.mu.Unlock()
	return nil
}

func (p *packs) isGone(k *pack) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return k.gone
}

// finish closes the current pack. p.writing is held.
func (p *packs) finish() error {
	if p.current == nil {
		return nil
	}
	p.current = nil
	return errors.Join(p.data.Close(), p.index.Close())
}

// discarded notes that a pack was deleted.
func (p *packs) discarded(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.known[path]; k != nil {
		k.gone = true
		delete(p.known, path)
		maps.DeleteFunc(p.places, func(_ [short]byte, at place) bool { return at.pack == k })
	}
}

// look reads what other processes wrote since the last look. p.mu is held, or
// nobody else has p yet. Files that cannot be read hold nothing.
func (p *packs) look() {
	p.looked = time.Now()
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), indexSuffix)
		if !ok {
			continue
		}
		path := filepath.Join(p.dir, name)
		k := p.known[path]
		if k == nil {
			k = &pack{path: path}
			p.known[path] = k
		}
		if info, err := e.Info(); err == nil && !k.own && info.Size() >= k.read+placeSize {
			p.learn(k)
		}
	}
}

// learn reads the index of a pack that is not written here, from where it was
// read before.
func (p *packs) learn(k *pack) {
	b, err := os.ReadFile(k.path + indexSuffix)
	if err != nil {
		return
	}
	for ; int64(len(b)) >= k.read+placeSize; k.read += placeSize {
		if i, at, ok := decodePlace(b[k.read : k.read+placeSize]); ok {
			at.pack = k
			p.places[i] = at
		}
	}
}

func (at place) encode(i id) []byte {
	b := append(make([]byte, 0, placeSize), i[:short]...)
	b = binary.LittleEndian.AppendUint32(b, at.off)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodePlace(b []byte) (i [short]byte, at place, ok bool) {
	at.off = binary.LittleEndian.Uint32(b[short:])
	sum := binary.LittleEndian.Uint32(b[short+4:])
	return [short]byte(b), at, sum == crc32.Checksum(b[:short+4], castagnoli)
}

func appendTrailer(b []byte, i id) []byte {
	b = append(b, i[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}
