package manifest

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
)

// MaxXattrs is how long Xattrs may be, in bytes: S3 takes 2 KiB of metadata, and
// the rest of ours needs some 300. It has room for about 1,000 bytes of names
// and values.
const MaxXattrs = 1400

// Xattrs are a file's extended attributes as text, which any store keeps in
// metadata: base64 of names and values, each after its length, in the order of
// the names. "" is none.
type Xattrs string

// EncodeXattrs returns attrs as text.
func EncodeXattrs(attrs map[string][]byte) Xattrs {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		b = append(binary.AppendUvarint(b, uint64(len(attrs[name]))), attrs[name]...)
	}
	return Xattrs(base64.RawStdEncoding.EncodeToString(b))
}

// Decode returns what EncodeXattrs was given; of damaged text, what comes before
// the damage.
func (x Xattrs) Decode() map[string][]byte {
	attrs := map[string][]byte{}
	b, _ := base64.RawStdEncoding.DecodeString(string(x))
	for len(b) > 0 {
		name, rest, ok := cutCounted(b)
		if !ok {
			break
		}
		value, rest, ok := cutCounted(rest)
		if !ok {
			break
		}
		attrs[string(name)], b = value, rest
	}
	return attrs
}

func cutCounted(b []byte) (head, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	b = b[size:]
	return b[:n], b[n:], true
}
