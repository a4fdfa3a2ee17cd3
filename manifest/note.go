package manifest

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A note's encoding is that of a commit (header, zstd, protocol buffers) with
// the kind 'W': one or more Writes, a merged note having those of many mounts.
// A Write is a Change of the log's format with one field more.
const kindNote = 'W'

// Field numbers of a note, of the Writes in it, and of the field that a Write
// has beside those of a Change.
const (
	noteWrites protowire.Number = 1

	writesWriter  protowire.Number = 1
	writesSession protowire.Number = 2
	writesSeq     protowire.Number = 3
	writesTime    protowire.Number = 4
	writesChange  protowire.Number = 5

	writePrev protowire.Number = 32 // leaves room for what a Change may get
)

// EncodeNote returns the bytes that stand in the bucket for list. The storage
// of its Writes and inline content are left out.
func EncodeNote(list []Writes) []byte {
	var b, msg []byte
	for _, w := range list {
		msg = appendWrites(msg[:0], w)
		b = appendBytes(b, noteWrites, msg)
	}
	return seal(kindNote, b)
}

func appendWrites(b []byte, w Writes) []byte {
	b = appendString(b, writesWriter, w.Writer)
	b = appendString(b, writesSession, w.Session)
	b = appendUint(b, writesSeq, w.Seq)
	b = appendInt(b, writesTime, w.Time.UnixNano())
	var msg []byte
	for _, c := range w.Changes {
		msg = appendUint(msg[:0], changeOp, uint64(c.Op))
		msg = appendFile(msg, c.File)
		msg = appendString(msg, writePrev, c.Prev)
		b = appendBytes(b, writesChange, msg)
	}
	return b
}

// DecodeNote reads what EncodeNote wrote. Its error is ErrCorrupt or a
// *VersionError.
func DecodeNote(b []byte) ([]Writes, error) {
	msg, err := unseal(kindNote, b)
	if err != nil {
		return nil, err
	}
	var list []Writes
	err = eachField(msg, func(f field) error {
		if f.num != noteWrites {
			return nil
		}
		w, err := decodeWrites(f.bytes)
		list = append(list, w)
		return err
	})
	return list, err
}

func decodeWrites(msg []byte) (Writes, error) {
	w := Writes{Time: time.Unix(0, 0).UTC()}
	err := eachField(msg, func(f field) (err error) {
		switch f.num {
		case writesWriter:
			w.Writer = string(f.bytes)
		case writesSession:
			w.Session = string(f.bytes)
		case writesSeq:
			w.Seq = f.uint
		case writesTime:
			w.Time = time.Unix(0, f.int()).UTC()
		case writesChange:
			var c Write
			c, err = decodeWrite(f.bytes)
			w.Changes = append(w.Changes, c)
		}
		return err
	})
	return w, err
}

func decodeWrite(msg []byte) (Write, error) {
	change, err := decodeChange(msg)
	if err != nil {
		return Write{}, err
	}
	w := Write{Change: change}
	err = eachField(msg, func(f field) error {
		if f.num == writePrev {
			w.Prev = string(f.bytes)
		}
		return nil
	})
	if err != nil {
		return w, fmt.Errorf("write of %s: %w", w.Path, err)
	}
	return w, nil
}
