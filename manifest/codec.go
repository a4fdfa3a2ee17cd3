package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

// The encodings of commits and checkpoints are a six-byte header (magic,
// kind, major version) and a zstd frame that holds a message in the protocol
// buffers wire format (https://protobuf.dev/programming-guides/encoding/).
// A reader skips fields that it does not know; a change that an old reader
// must not skip raises the major version. docs/format.md has the schema.
const (
	magic         = "skya"
	kindCommit    = 'C'
	kindManifest  = 'M'
	formatVersion = 1
	headerSize    = len(magic) + 2

	// maxDecoded bounds what an object may unpack to, in bytes. A manifest
	// entry takes about 120 bytes, so this is some 17 million files.
	maxDecoded = 2 << 30
	// A small hostile object may unpack to less: to floorDecoded bytes, and
	// maxRatio more for each of its own. Hashes do not compress, and directories
	// with long names were seen to shrink by 200.
	floorDecoded = 16 << 20
	maxRatio     = 1000
)

// ErrCorrupt says that bytes are not what was once encoded.
var ErrCorrupt = errors.New("corrupt")

// A VersionError says that a newer skyagent wrote what this one cannot read.
type VersionError struct{ Major int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("format version %d is newer than this skyagent reads (%d)", e.Major, formatVersion)
}

var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true))
		if err != nil {
			panic(err) // constant options: cannot be wrong
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(err)
		}
		return d
	})
)

func seal(kind byte, msg []byte) []byte {
	out := make([]byte, 0, headerSize+len(msg)/2+64)
	out = append(out, magic...)
	out = append(out, kind, formatVersion)
	return encoder().EncodeAll(msg, out)
}

func unseal(kind byte, b []byte) ([]byte, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic || b[len(magic)] != kind {
		return nil, fmt.Errorf("%w: header is not ours", ErrCorrupt)
	}
	switch v := int(b[len(magic)+1]); {
	case v > formatVersion:
		return nil, &VersionError{Major: v}
	case v == 0:
		return nil, fmt.Errorf("%w: format version 0", ErrCorrupt)
	}
	return unpack(b[headerSize:])
}

// unnamedSize is below what an encoder may leave out of a frame's header how
// much it holds, in bytes.
const unnamedSize = 256

// unpack returns what the zstd frame b holds.
func unpack(b []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	size := uint64(unnamedSize)
	if h.HasFCS {
		size = h.FrameContentSize
	}
	if size > min(maxDecoded, floorDecoded+maxRatio*uint64(len(b))) {
		return nil, fmt.Errorf("%w: %d bytes may not unpack to %d", ErrCorrupt, len(b), size)
	}
	msg, err := decoder().DecodeAll(b, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return msg, nil
}

// Field numbers of a Commit.
const (
	commitEpoch protowire.Number = iota + 1
	commitGeneration
	commitPrev
	commitWriter
	commitWriteID
	commitTime
	commitChange
)

// EncodeCommit returns the bytes that stand in the log for c.
func EncodeCommit(c Commit) []byte {
	b := make([]byte, 0, 128+len(c.Changes)*128)
	b = appendString(b, commitEpoch, string(c.Epoch))
	b = appendUint(b, commitGeneration, c.Generation)
	b = appendHash(b, commitPrev, c.Prev)
	b = appendString(b, commitWriter, c.Writer)
	b = appendString(b, commitWriteID, c.WriteID)
	b = appendInt(b, commitTime, c.Time.UnixNano())
	var msg []byte
	for _, ch := range c.Changes {
		msg = appendUint(msg[:0], changeOp, uint64(ch.Op))
		msg = appendFile(msg, ch.File)
		b = appendBytes(b, commitChange, msg)
	}
	return seal(kindCommit, b)
}

// DecodeCommit reads what EncodeCommit wrote. Its error is ErrCorrupt or a
// *VersionError.
func DecodeCommit(b []byte) (Commit, error) {
	c := Commit{Time: time.Unix(0, 0).UTC()}
	msg, err := unseal(kindCommit, b)
	if err != nil {
		return c, err
	}
	err = eachField(msg, func(f field) (err error) {
		switch f.num {
		case commitEpoch:
			c.Epoch = Epoch(f.bytes)
		case commitGeneration:
			c.Generation = f.uint
		case commitPrev:
			c.Prev, err = f.hash()
		case commitWriter:
			c.Writer = string(f.bytes)
		case commitWriteID:
			c.WriteID = string(f.bytes)
		case commitTime:
			c.Time = time.Unix(0, f.int()).UTC()
		case commitChange:
			var ch Change
			ch, err = decodeChange(f.bytes)
			c.Changes = append(c.Changes, ch)
		}
		return err
	})
	return c, err
}

// A Checkpoint is a manifest and its place in the log.
type Checkpoint struct {
	Epoch      Epoch
	Generation uint64
	Commit     Hash // Sum of the encoding of that generation's commit
	Manifest   *Manifest
}

// Field numbers of a Checkpoint.
const (
	checkpointEpoch protowire.Number = iota + 1
	checkpointGeneration
	checkpointCommit
	checkpointFile
)

// EncodeCheckpoint returns the bytes that stand in the bucket for c.
func EncodeCheckpoint(c Checkpoint) []byte {
	b := make([]byte, 0, 128+c.Manifest.Len()*128)
	b = appendString(b, checkpointEpoch, string(c.Epoch))
	b = appendUint(b, checkpointGeneration, c.Generation)
	b = appendHash(b, checkpointCommit, c.Commit)
	var msg []byte
	for f := range c.Manifest.All() {
		msg = appendFile(msg[:0], f)
		b = appendBytes(b, checkpointFile, msg)
	}
	return seal(kindManifest, b)
}

// DecodeCheckpoint reads what EncodeCheckpoint wrote. Its error is ErrCorrupt
// or a *VersionError.
func DecodeCheckpoint(b []byte) (Checkpoint, error) {
	c := Checkpoint{Manifest: New()}
	msg, err := unseal(kindManifest, b)
	if err != nil {
		return c, err
	}
	err = eachField(msg, func(f field) (err error) {
		switch f.num {
		case checkpointEpoch:
			c.Epoch = Epoch(f.bytes)
		case checkpointGeneration:
			c.Generation = f.uint
		case checkpointCommit:
			c.Commit, err = f.hash()
		case checkpointFile:
			var file File
			if file, err = decodeFile(f.bytes); err == nil {
				c.Manifest.Put(file)
			}
		}
		return err
	})
	return c, err
}

// Field numbers of a Change, which is a File and an operation.
const (
	changeOp protowire.Number = iota + 1
	filePath
	fileMode
	fileSize
	fileMTime
	fileHash
	fileRev
	filePartSize
	fileParts
	fileXattrs
)

// Modes are encoded as POSIX has them: S_IFMT, S_IFDIR and S_IFLNK. A reader who
// does not know symlinks takes one for a file.
const (
	posixType = 0o170000
	posixDir  = 0o040000
	posixLink = 0o120000
)

func appendFile(b []byte, f File) []byte {
	b = appendString(b, filePath, string(f.Path))
	mode := uint64(f.Mode.Perm())
	if f.IsDir() {
		mode |= posixDir
	}
	if f.IsLink() {
		mode |= posixLink
	}
	b = appendUint(b, fileMode, mode)
	b = appendUint(b, fileSize, uint64(f.Size))
	b = appendInt(b, fileMTime, f.MTime)
	b = appendHash(b, fileHash, f.Hash)
	b = appendString(b, fileRev, f.Rev)
	if f.PartSize > 0 {
		b = appendUint(b, filePartSize, uint64(f.PartSize))
		parts := make([]byte, 0, len(f.Parts)*len(Hash{}))
		for _, h := range f.Parts {
			parts = append(parts, h[:]...)
		}
		b = appendBytes(b, fileParts, parts)
	}
	return appendString(b, fileXattrs, string(f.Xattrs))
}

func decodeChange(msg []byte) (Change, error) {
	var c Change
	op := uint64(0)
	err := eachField(msg, func(f field) error {
		if f.num == changeOp {
			op = f.uint
			return nil
		}
		return c.File.take(f)
	})
	if err == nil {
		err = c.validate()
	}
	if err == nil && op != uint64(Put) && op != uint64(Delete) {
		err = fmt.Errorf("%w: unknown operation %d", ErrCorrupt, op)
	}
	c.Op = Op(op)
	return c, err
}

func decodeFile(msg []byte) (File, error) {
	var file File
	err := eachField(msg, file.take)
	if err == nil {
		err = file.validate()
	}
	return file, err
}

// take sets what the field says of a file.
func (f *File) take(v field) (err error) {
	switch v.num {
	case filePath:
		f.Path, err = ParsePath(string(v.bytes))
	case fileMode:
		f.Mode = fs.FileMode(v.uint) & fs.ModePerm
		if v.uint&posixDir != 0 {
			f.Mode |= fs.ModeDir
		}
		if v.uint&posixType == posixLink {
			f.Mode |= fs.ModeSymlink
		}
	case fileSize:
		f.Size = int64(v.uint)
	case fileMTime:
		f.MTime = v.int()
	case fileHash:
		f.Hash, err = v.hash()
	case fileRev:
		f.Rev = string(v.bytes)
	case filePartSize:
		f.PartSize = int64(v.uint)
	case fileParts:
		f.Parts, err = v.hashes()
	case fileXattrs:
		f.Xattrs = Xattrs(v.bytes)
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}

// validate checks what readers rely on when they compute with sizes.
func (f File) validate() error {
	switch {
	case f.Path == "":
		return fmt.Errorf("%w: file without a path", ErrCorrupt)
	case f.Size < 0 || f.PartSize < 0 || f.Size > maxSize || f.PartSize > maxSize:
		return fmt.Errorf("%w: %s has an impossible size", ErrCorrupt, f.Path)
	case f.IsDir() && (f.Size > 0 || f.PartSize > 0):
		return fmt.Errorf("%w: directory %s has a size", ErrCorrupt, f.Path)
	case f.PartSize == 0 && len(f.Parts) > 0, f.PartSize > 0 && int64(len(f.Parts)) != (f.Size+f.PartSize-1)/f.PartSize:
		return fmt.Errorf("%w: %s has %d parts of %d bytes for %d", ErrCorrupt, f.Path, len(f.Parts), f.PartSize, f.Size)
	}
	return nil
}

// maxSize is far above the largest object of any store (50 TB), and small
// enough to compute with.
const maxSize = 1 << 60
