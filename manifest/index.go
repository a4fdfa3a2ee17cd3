package manifest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Position is a place in a log: the last commit that was seen.
type Position struct {
	Epoch      Epoch
	Generation uint64 // 0 before the first commit
	Commit     Hash   // Sum of that commit's encoding
	Rev        string // the store's revision of that commit's object

	// Since counts the changes after the last checkpoint. Only the writer of
	// the log keeps it, over its restarts.
	Since int
}

// An Entry is a file and what the local file system showed when its content
// was known to be that. A zero Stat means that it must be read again.
type Entry struct {
	File
	Stat Stat
}

// An Index is an agent's memory of one directory: on a source the manifest
// that was committed, on a replica the files that were put in place, each with
// the Stat that proves it unchanged. It is a cache of the log and the tree:
// when it is lost, both are read again.
//
// On disk it is a journal: one frame a step, each with a checksum. A frame cut
// short by a crash is dropped; any other damage is ErrCorrupt. Frames survive
// kill -9, but are not synced one by one: after a crash of the system (another
// boot id, not closed) every Stat is forgotten.
//
// An Index has one owner goroutine. Others may read it only while the owner
// does not write.
type Index struct {
	path   string
	file   *os.File
	pos    Position
	files  *Manifest
	size   int64 // bytes of the journal that are whole frames
	begun  bool  // the journal says that this boot writes to it
	behind bool  // the journal lacks a step that could not be written
	loose  int   // records in the journal since it was last written as a whole, in order
}

const (
	indexMagic    = magic + "I\x01"
	frameHeader   = 8       // length and CRC-32C of the payload, little endian
	maxFrame      = 1 << 30 // bytes
	compactFloor  = 1024    // loose records below which compaction is not worth it
	snapshotFrame = 4096    // entries a frame when the whole index is written
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenIndex reads the index at path, or begins a new one. ErrCorrupt says that
// the file is damaged; it is left as it is.
func OpenIndex(path string) (*Index, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	x := &Index{path: path, file: file, files: New()}
	if err := x.load(); err != nil {
		file.Close()
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	return x, nil
}

// Position returns the place in the log that the index stands at.
func (x *Index) Position() Position { return x.pos }

// Files returns the files of the index. Only the index changes it.
func (x *Index) Files() *Manifest { return x.files }

// Stat returns what the file system showed for p; zero when it is not known.
func (x *Index) Stat(p Path) Stat {
	r, _ := x.files.files.Get(p)
	return r.stat
}

// Snapshot returns what the index holds now, in O(1), for readers that run
// beside the owner. It cannot be updated.
func (x *Index) Snapshot() *Index {
	return &Index{pos: x.pos, files: x.files.Clone()}
}

// Entries yields every entry in the order of the paths.
func (x *Index) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		x.files.files.Scan(func(_ Path, r record) bool { return yield(Entry{r.File, r.stat}) })
	}
}

// Update takes one step: entries are added or replaced, paths in gone are
// removed, and the index stands at pos. On disk it happens whole or not at
// all: after an error the journal is as it was, and the next step that can be
// written brings what it lacks.
func (x *Index) Update(pos Position, entries []Entry, gone []Path) error {
	payload := appendPosition(nil, pos)
	for _, e := range entries {
		payload = appendEntry(payload, e)
	}
	for _, p := range gone {
		payload = appendString(payload, frameGone, string(p))
	}
	x.pos = pos
	x.take(entries, gone)
	if err := x.save(payload); err != nil {
		x.behind = true
		return fmt.Errorf("index %s: %w", x.path, err)
	}
	return nil
}

// save makes the journal say what is in memory. A frame alone would not do
// when the one before it is missing.
func (x *Index) save(payload []byte) error {
	if x.behind {
		return x.rewrite()
	}
	if err := x.append(payload); err != nil {
		return err
	}
	if x.loose > max(compactFloor, 2*x.files.Len()) {
		return x.rewrite()
	}
	return nil
}

// append writes one frame. What a full disk let through of it is taken back,
// so that later frames follow a whole one.
func (x *Index) append(payload []byte) error {
	if !x.begun {
		x.begun = true // a session that only reads leaves no mark
		if err := x.append(appendString(nil, frameBoot, bootID())); err != nil {
			return err
		}
	}
	if _, err := x.file.Seek(x.size, io.SeekStart); err != nil {
		return err
	}
	if err := writeFrame(x.file, payload); err != nil {
		return errors.Join(err, x.file.Truncate(x.size))
	}
	x.size += int64(frameHeader + len(payload))
	return nil
}

// take changes what is in memory.
func (x *Index) take(entries []Entry, gone []Path) {
	for _, e := range entries {
		x.put(e)
	}
	for _, p := range gone {
		x.files.Delete(p)
	}
	x.loose += len(entries) + len(gone)
}

func (x *Index) put(e Entry) {
	e.Stat.Dev = 0
	x.files.put(record{e.File, e.Stat})
}

// Reset forgets everything, on disk too.
func (x *Index) Reset() error {
	x.pos, x.files, x.behind = Position{}, New(), true
	return x.rewrite()
}

// Close makes the index durable and marks it as closed.
func (x *Index) Close() error {
	if !x.begun {
		return x.file.Close()
	}
	if x.behind || x.loose > max(compactFloor, x.files.Len()/2) {
		// The next start reads it faster in order, and has paid for it by now.
		if err := x.rewrite(); err != nil {
			return errors.Join(err, x.file.Close()) // an earlier state, not marked as closed
		}
	}
	err := x.append(appendString(nil, frameBoot, closedBoot))
	return errors.Join(err, x.file.Sync(), x.file.Close())
}

// Field numbers of a frame.
const (
	framePosition protowire.Number = iota + 1
	frameEntry
	frameGone
	frameBoot  // the boot during which frames follow; closedBoot after a clean close
	frameWhole // 1: what was written up to here is the whole index, in order
)

const closedBoot = "closed"

// load replays the journal and truncates a torn end.
func (x *Index) load() error {
	b, err := io.ReadAll(bufio.NewReaderSize(x.file, 1<<20))
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return x.rewrite()
	}
	if len(b) < len(indexMagic) || string(b[:len(indexMagic)]) != indexMagic {
		return fmt.Errorf("%w: header is not ours", ErrCorrupt)
	}
	boot, good := "", len(indexMagic)
	for {
		payload, n, err := readFrame(b[good:])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := x.replay(payload, &boot); err != nil {
			return err
		}
		good += n
	}
	if boot != closedBoot && boot != bootID() {
		x.distrust()
	}
	return x.reopen(int64(good))
}

// distrust forgets every Stat: what is on the disk must be read again.
func (x *Index) distrust() {
	all := New()
	for f := range x.files.All() {
		all.Put(f)
	}
	x.files = all
}

// reopen goes on after the good bytes of the journal, in this boot.
func (x *Index) reopen(good int64) error {
	x.size = good
	return x.file.Truncate(good)
}

// replay takes one frame. An error leaves the index half changed, and unused.
func (x *Index) replay(payload []byte, boot *string) error {
	return eachField(payload, func(f field) (err error) {
		switch f.num {
		case framePosition:
			x.pos, err = decodePosition(f.bytes)
		case frameEntry:
			var e Entry
			e, err = decodeEntry(f.bytes)
			x.put(e)
			x.loose++
		case frameGone:
			x.files.Delete(Path(f.bytes))
			x.loose++
		case frameBoot:
			*boot = string(f.bytes)
		case frameWhole:
			x.loose = 0
		}
		return err
	})
}

// rewrite replaces the journal by one that holds only what is live.
func (x *Index) rewrite() error {
	tmp, err := os.CreateTemp(filepath.Dir(x.path), filepath.Base(x.path)+".*.tmp")
	if err != nil {
		return err
	}
	if err := x.snapshot(tmp); err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return err
	}
	// Synced before the rename: after a crash the name must not stand for
	// an empty file.
	if err := errors.Join(tmp.Sync(), os.Rename(tmp.Name(), x.path)); err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return err
	}
	x.file.Close()
	x.file, x.loose, x.begun, x.behind = tmp, 0, true, false
	x.size, err = tmp.Seek(0, io.SeekCurrent)
	return err
}

func (x *Index) snapshot(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 1<<20)
	buf.WriteString(indexMagic)
	payload := appendPosition(appendString(nil, frameBoot, bootID()), x.pos)
	n := 0
	for e := range x.Entries() {
		payload = appendEntry(payload, e)
		if n++; n%snapshotFrame == 0 {
			if err := writeFrame(buf, payload); err != nil {
				return err
			}
			payload = payload[:0]
		}
	}
	if err := writeFrame(buf, appendUint(payload, frameWhole, 1)); err != nil {
		return err
	}
	return buf.Flush()
}

func writeFrame(w io.Writer, payload []byte) error {
	frame := make([]byte, frameHeader, frameHeader+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], crc32.Checksum(payload, castagnoli))
	_, err := w.Write(append(frame, payload...))
	return err
}

// readFrame returns the payload of the first frame of b and the frame's size,
// which is 0 at the end and where the last frame was cut short.
func readFrame(b []byte) (payload []byte, size int, err error) {
	if len(b) < frameHeader {
		return nil, 0, nil
	}
	length := int(binary.LittleEndian.Uint32(b))
	if length > maxFrame {
		return nil, 0, fmt.Errorf("%w: frame of %d bytes", ErrCorrupt, length)
	}
	if len(b) < frameHeader+length {
		return nil, 0, nil
	}
	payload = b[frameHeader : frameHeader+length]
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	return payload, frameHeader + length, nil
}

// Field numbers of a Position and of an Entry, which is a File and a Stat.
const (
	positionEpoch protowire.Number = iota + 1
	positionGeneration
	positionCommit
	positionRev
	positionSince
)

const (
	statIno protowire.Number = iota + 32
	statSize
	statMTime
	statCTime
	statMode
)

func appendPosition(b []byte, p Position) []byte {
	msg := appendString(nil, positionEpoch, string(p.Epoch))
	msg = appendUint(msg, positionGeneration, p.Generation)
	msg = appendHash(msg, positionCommit, p.Commit)
	msg = appendString(msg, positionRev, p.Rev)
	msg = appendUint(msg, positionSince, uint64(p.Since))
	b = protowire.AppendTag(b, framePosition, protowire.BytesType)
	return protowire.AppendBytes(b, msg) // an empty one too: it says "from the start"
}

func decodePosition(msg []byte) (Position, error) {
	var p Position
	err := eachField(msg, func(f field) (err error) {
		switch f.num {
		case positionEpoch:
			p.Epoch = Epoch(f.bytes)
		case positionGeneration:
			p.Generation = f.uint
		case positionCommit:
			p.Commit, err = f.hash()
		case positionRev:
			p.Rev = string(f.bytes)
		case positionSince:
			p.Since = int(f.uint)
		}
		return err
	})
	return p, err
}

func appendEntry(b []byte, e Entry) []byte {
	msg := appendFile(make([]byte, 0, 160), e.File)
	if e.Stat != (Stat{}) {
		msg = appendUint(msg, statIno, e.Stat.Ino)
		msg = appendUint(msg, statSize, uint64(e.Stat.Size))
		msg = appendInt(msg, statMTime, e.Stat.MTime)
		msg = appendInt(msg, statCTime, e.Stat.CTime)
		msg = appendUint(msg, statMode, uint64(e.Stat.Mode))
	}
	return appendBytes(b, frameEntry, msg)
}

func decodeEntry(msg []byte) (Entry, error) {
	var e Entry
	err := eachField(msg, func(f field) error {
		switch f.num {
		case statIno:
			e.Stat.Ino = f.uint
		case statSize:
			e.Stat.Size = int64(f.uint)
		case statMTime:
			e.Stat.MTime = f.int()
		case statCTime:
			e.Stat.CTime = f.int()
		case statMode:
			e.Stat.Mode = fs.FileMode(f.uint)
		default:
			return e.File.take(f)
		}
		return nil
	})
	if err == nil {
		err = e.validate()
	}
	return e, err
}
